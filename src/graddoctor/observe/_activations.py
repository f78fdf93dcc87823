"""Readings of nonlinearities, merged over batches: a unit is dead when no sample of any batch wakes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graddoctor.observe import _samples as samples_of
from graddoctor.observe._nonlinear import Nonlinearity
from graddoctor.observe.attention import HIDDEN
from graddoctor.observe.readings import ActivationReading

_FLAT = 0.1  # a slope under this share of the steepest counts as saturated
_NOTHING = 1e-6  # outputs and slopes below are zero: GELU's and SiLU's tails never reach it exactly
_BINS = 32
_DRAWN = 8192  # values that a histogram is made of


@dataclass
class Use:
    """What is known of one use of a nonlinearity. The sums are 0-d tensors: nothing waits for the device."""

    name: str
    module: str
    what: Nonlinearity
    shape: tuple[int, ...]
    number: int
    samples: int = 0
    count: int = 0
    asleep: Tensor | None = None
    flat: list[tuple[Tensor, int]] = field(default_factory=list)  # (how many, of how many)
    slopes: list[tuple[Tensor, int]] = field(default_factory=list)  # (sum of squares, of how many)
    nonzero: list[Tensor] = field(default_factory=list)
    finite: list[Tensor] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    spread: list[Tensor] = field(default_factory=list)
    drawn: Tensor | None = None


@dataclass(frozen=True)
class Before:
    """What must be taken from the input before an in-place operation overwrites it."""

    square: Tensor
    slope: Tensor | None


def look_before(
    what: Nonlinearity, x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, in_place: bool
) -> Before:
    """Measure the input; take the slope now if it needs the input and the operation will overwrite it.

    What a mask took out of a softmax is not a part of the signal, and counts as zero.
    """
    early = in_place and what.slope is not None and not what.from_output
    slope = what.slope(x, x, args, kwargs) if early and what.slope is not None else None
    signal = x.masked_fill(x < HIDDEN, 0) if what.kind == "softmax" else x
    return Before(samples_of.square(signal), slope)


@dataclass(frozen=True)
class Call:
    """One call of a nonlinearity."""

    x: Tensor
    y: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    samples: int


def look_after(use: Use, before: Before, call: Call, apart: Tensor | None, size: Tensor, *, channels: bool) -> None:
    """Add what one call showed to ``use``.

    ``apart`` and ``size`` are spread and sum of squares of its output; ``channels``: units lie on axis 1 (images), not
    on the last.
    """
    y = call.y
    use.samples += call.samples or (y.shape[0] if y.dim() else 1)
    use.count += y.numel()
    use.before.append(before.square)
    use.after.append(size)
    use.nonzero.append(torch.count_nonzero(y))
    use.finite.append(y.isfinite().sum())
    if apart is not None:
        use.spread.append(apart)
    if use.drawn is None:
        use.drawn = _draw(y)
    if use.what.kind == "softmax":
        _look_at_rows(use, y, call.args, call.kwargs)
        return
    slope = before.slope
    if slope is None and use.what.slope is not None:
        slope = use.what.slope(call.x, y, call.args, call.kwargs)
    if slope is not None:
        _look_at_slope(use, slope, y, channels=channels)


def _look_at_slope(use: Use, slope: Tensor, y: Tensor, *, channels: bool) -> None:
    use.slopes.append((samples_of.square(slope), slope.numel()))
    if use.what.bounded:
        use.flat.append(((slope.abs() < _FLAT * use.what.steepest).sum(), slope.numel()))
    if use.what.one_sided and y.dim() > 1:
        awake = (slope.abs() > _NOTHING) | (y.abs() > _NOTHING)
        unit = 1 if channels else y.dim() - 1
        asleep = ~awake.transpose(0, unit).reshape(y.shape[unit], -1).any(1)
        same = use.asleep is not None and use.asleep.shape == asleep.shape
        use.asleep = use.asleep & asleep if same and use.asleep is not None else asleep


def _look_at_rows(use: Use, y: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    axis = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    top = y.amax(axis).float()
    slope = top * (1 - top)
    use.slopes.append((samples_of.square(slope * 4), slope.numel()))  # p(1 - p) is at most 1/4
    use.flat.append(((slope < _FLAT / 4).sum(), slope.numel()))


def _draw(y: Tensor) -> Tensor:
    flat = y.detach().reshape(-1)
    step = max(1, -(-flat.numel() // _DRAWN))
    return flat[::step].float().clone()


def reading(use: Use, order: int, gradient: float) -> ActivationReading:
    """Turn the sums into the numbers that rules read."""
    count = max(use.count, 1)
    steep = use.what.steepest**2 if use.what.kind != "softmax" else 1.0
    slope = _ratio(use.slopes)
    return ActivationReading(
        name=use.name,
        module=use.module,
        kind=use.what.kind,
        shape=use.shape,
        samples=use.samples,
        dead=float(use.asleep.double().mean()) if use.asleep is not None else 0.0,
        saturated=_ratio(use.flat) if use.flat else 0.0,
        slope=slope / steep,
        zeros=1.0 - _sum(use.nonzero) / count,
        input_rms=math.sqrt(_sum(use.before) / count),
        output_rms=math.sqrt(_sum(use.after) / count),
        spread=_sum(use.spread) / len(use.spread) if use.spread else math.nan,
        gradient=gradient,
        nonfinite=use.count - int(_sum(use.finite)),
        histogram=_histogram(use.drawn),
        order=order,
    )


def _sum(values: list[Tensor]) -> float:
    return math.fsum(float(value) for value in values)


def _ratio(parts: list[tuple[Tensor, int]]) -> float:
    return _sum([part for part, _ in parts]) / sum(n for _, n in parts) if parts else math.nan


def _histogram(drawn: Tensor | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if drawn is None:
        return None
    values = drawn.cpu().numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    low, high = float(values.min()), float(values.max())
    if high == low:
        low, high = low - 0.5, high + 0.5
    places = ((values - low) * (_BINS / (high - low))).astype(np.int64).clip(0, _BINS - 1)
    shares = np.bincount(places, minlength=_BINS) / values.size
    return tuple(np.linspace(low, high, _BINS + 1).tolist()), tuple(shares.tolist())
