"""What slabs of activations tell, worked out for many steps and many taps at once, off the training path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graddoctor.observe._nonlinear import Nonlinearity
from graddoctor.observe.modules import Arguments
from graddoctor.observe.slab import Slab
from graddoctor.observe.taps import Tap
from graddoctor.recording import Stage, Track

ACTIVATION_STATISTICS = (
    "norm",
    "count",
    "sum",
    "absmax",
    "zeros",
    "nonfinite",
    "spread",
    "dead",
    "saturated",
    "slope",
    "input_rms",
)
GRADIENT_STATISTICS = ("norm", "count", "zeros", "nonfinite", "exact")
WIDTH = len(ACTIVATION_STATISTICS) + len(GRADIENT_STATISTICS)
WINDOW = 64  # read steps over which a unit must have been silent to be called dead

_SATURATED = 0.1  # of the steepest slope, see `ActivationReading`


def tracks_of(tap: Tap) -> list[Track]:
    """Name what is recorded of one tap."""
    parts = ((Stage.ACTIVATION, ACTIVATION_STATISTICS), (Stage.ACTIVATION_GRADIENT, GRADIENT_STATISTICS))
    return [Track(tap.name, stage, tap.module, names, tap.shape, tap.dtype, tap.kind) for stage, names in parts]


class Silence:
    """For how many read steps each sampled unit of one tap has been silent."""

    def __init__(self, units: int) -> None:
        self.units = units
        self._since = torch.zeros(units, dtype=torch.long)
        self.seen = 0

    def follow(self, active: Tensor, read: Tensor) -> Tensor:
        """Return the share of dead units after each step.

        Parameters
        ----------
        active
            ``(steps, units)``: whether a unit was active for any sample.
        read
            ``(steps,)``: whether the step was read at all.
        """
        shares = []
        for row, known in zip(active, read.tolist(), strict=True):
            if known:
                self.seen = min(self.seen + 1, WINDOW)
                self._since = torch.where(row, 0, self._since + 1)
            shares.append((self._since >= max(self.seen, 1)).double().mean())
        return torch.stack(shares)


@dataclass(frozen=True)
class Use:
    """What a tap was when a ring was made for it: a batch of another size changes the tap, not the ring."""

    name: str
    kind: str
    nonlinearity: Nonlinearity | None
    arguments: Arguments
    plan: Slab
    shape: tuple[int, ...]


def _use(tap: Tap) -> Use:
    if tap.plan is None:
        raise ValueError(f"{tap.name}: nothing is sampled of shape {tap.shape}, so it belongs into no ring")
    return Use(tap.name, tap.kind, tap.nonlinearity, tap.arguments, tap.plan, tap.shape)


class Ring:
    """The slabs of all taps for the last steps: one flat row a step."""

    def __init__(self, taps: list[Tap], capacity: int) -> None:
        self._uses = [_use(tap) for tap in taps]
        self.tracks = [track for tap in taps for track in tracks_of(tap)]
        sizes = [sum(buffer.numel() for buffer in tap.buffers) for tap in taps]
        self._starts = np.cumsum([0, *sizes]).tolist()
        device = taps[0].output.device if taps else torch.device("cpu")
        self.current = torch.full((self._starts[-1],), torch.nan, device=device)
        self._rows = torch.full((capacity, self._starts[-1]), torch.nan, device=device)
        self._homes = []
        for tap, start in zip(taps, self._starts, strict=False):
            self._homes.append(self._move_in(tap, start))

    def _move_in(self, tap: Tap, start: int) -> list[Tensor]:
        homes = []
        for buffer in tap.buffers:
            home = self.current[start : start + buffer.numel()]
            home.copy_(buffer)
            homes.append(home)
            start += buffer.numel()
        tap.place(homes)
        return homes

    def holds(self, taps: list[Tap]) -> bool:
        """Whether all taps still write where this ring expects it (a new shape makes a tap write elsewhere)."""
        return len(taps) == len(self._uses) and all(
            tap.output is home[0] for tap, home in zip(taps, self._homes, strict=True)
        )

    def commit(self, row: int) -> None:
        """Keep what the hooks wrote as the row of a step, and forget it."""
        self._rows[row].copy_(self.current)
        self.current.fill_(torch.nan)

    def table(self, rows: int, silences: dict[str, Silence]) -> NDArray[np.float64]:
        """Work out the statistics of the first ``rows`` rows: ``(rows, columns of all tracks)``."""
        kept = self._rows[:rows].cpu()
        result = np.full((rows, len(self._uses), WIDTH), np.nan)
        for members in _alike(self._uses):
            slabs = [self._slabs(kept, index) for index in members]
            uses = [self._uses[index] for index in members]
            for use, slab, index in zip(uses, slabs, members, strict=True):
                silence = silences.get(use.name)
                if silence is None or silence.units != use.plan.size[2]:
                    silences[use.name] = Silence(use.plan.size[2])
                result[:, index, -1] = slab[3][:, 0].numpy()
            output, inputs, gradient = (torch.stack([slab[i] for slab in slabs]) for i in range(3))
            result[:, members, :-1] = _statistics(uses, output, inputs, gradient, silences).permute(1, 0, 2).numpy()
        return result.reshape(rows, -1)

    def _slabs(self, kept: Tensor, index: int) -> list[Tensor]:
        start, parts = self._starts[index], []
        for buffer in self._homes[index]:
            parts.append(kept[:, start : start + buffer.numel()])
            start += buffer.numel()
        return parts


def _alike(uses: list[Use]) -> Iterable[list[int]]:
    """Group uses that compute the same on slabs of the same size."""
    groups: dict[object, list[int]] = {}
    for index, use in enumerate(uses):
        groups.setdefault((use.kind, use.arguments, use.plan.size, use.shape[0]), []).append(index)
    return groups.values()


def _statistics(
    uses: list[Use], output: Tensor, inputs: Tensor, gradient: Tensor, silences: dict[str, Silence]
) -> Tensor:
    """Statistics of uses that are alike: ``(uses, steps, all but the exact norm)``; slabs are ``(uses, steps, n)``."""
    plan = uses[0].plan
    read = ~output.isnan().all(-1)
    scale = torch.tensor([float(np.prod(use.shape)) / plan.count for use in uses], dtype=torch.float64).sqrt()[:, None]
    moments, clean = _moments(output)
    back, _ = _moments(gradient)
    size = (*output.shape[:2], *plan.size)
    dead, saturated, slope = _slopes(uses, output.reshape(size), inputs, read, silences)
    input_rms = (
        torch.linalg.vector_norm(inputs, dim=-1, dtype=torch.float64) / inputs.shape[-1] ** 0.5
        if inputs.numel()
        else torch.full_like(dead, torch.nan)
    )
    norm, *others = moments
    apart = clean.reshape(size) - clean.reshape(size)[:, :, :1]  # lest equal large numbers differ by rounding
    spread = apart.var(2, correction=0).mean((-1, -2)).double() * _unbiased(plan.size[0], uses[0].shape[0])
    spread = torch.full_like(spread, torch.nan) if uses[0].shape[0] < 2 else spread.sqrt()  # noqa: PLR2004  # one sample
    forward = torch.stack([norm * scale, *others, spread, dead, saturated, slope, input_rms], dim=-1)
    forward[~read] = torch.nan
    backward = torch.stack([back[0] * scale, back[1], back[4], back[5]], dim=-1)
    backward[gradient.isnan().all(-1)] = torch.nan
    return torch.cat([forward, backward], dim=-1)


def _unbiased(sampled: int, whole: int) -> float:
    """Factor from the variance of a few samples to that of the whole batch."""
    return sampled / (sampled - 1) * (whole - 1) / whole if sampled > 1 else 1.0


def _moments(values: Tensor) -> tuple[list[Tensor], Tensor]:
    """Norm, count, sum, absmax, zeros, nonfinite along the last axis, and the values with what is not finite zeroed."""
    clean, bad = values, torch.zeros(values.shape[:-1], dtype=torch.float64)
    if not bool(values.sum().isfinite()):  # a finite sum makes the look at every element needless
        finite = values.isfinite()
        clean, bad = torch.where(finite, values, 0.0), (~finite).sum(-1).double()
    count = torch.full(values.shape[:-1], float(values.shape[-1]), dtype=torch.float64)
    zeros = values.shape[-1] - torch.count_nonzero(clean, dim=-1).double() - bad
    norm = torch.linalg.vector_norm(clean, dim=-1, dtype=torch.float64)
    absmax = torch.linalg.vector_norm(clean, ord=torch.inf, dim=-1).double()
    return [norm, count, clean.sum(-1, dtype=torch.float64), absmax, zeros, bad], clean


def _slopes(
    uses: list[Use], output: Tensor, inputs: Tensor, read: Tensor, silences: dict[str, Silence]
) -> tuple[Tensor, Tensor, Tensor]:
    """Dead and saturated shares, and mean square of the relative slope."""
    unknown = torch.full(read.shape, torch.nan, dtype=torch.float64)
    function = uses[0].nonlinearity
    none = torch.zeros_like(unknown)
    if function is None:
        return none, none, unknown
    if function.kind == "softmax":
        top = output.amax(-1)
        return none, (top * (1 - top) < _SATURATED / 4).double().mean((-1, -2)), unknown
    source = inputs.reshape(output.shape)
    known = not bool(source.isnan().all())
    if function.slope is None or not (known or function.from_output):
        return none, none, unknown
    argument = source if known else output
    slope = function.slope(argument, output, (argument, *uses[0].arguments), {})
    relative = slope.abs() / function.steepest
    saturated = (relative < _SATURATED).float().mean((-1, -2, -3)).double() if function.bounded else none
    dead = none
    if function.one_sided:
        active = ((output != 0) | (slope != 0)).flatten(2, 3).any(2)
        dead = torch.stack(
            [silences[use.name].follow(active[i], read[i]) for i, use in enumerate(uses)],
        )
    return dead, saturated, relative.square().mean((-1, -2, -3)).double()
