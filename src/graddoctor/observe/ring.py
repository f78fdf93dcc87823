"""What slabs of activations tell, worked out for many steps and many taps at once, off the training path."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


class Ring:
    """The slabs of all taps for the last steps: one flat row a step."""

    def __init__(self, taps: list[Tap], capacity: int) -> None:
        self.taps = list(taps)
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
        return len(taps) == len(self.taps) and all(
            tap.output is home[0] for tap, home in zip(taps, self._homes, strict=True)
        )

    def commit(self, row: int) -> None:
        """Keep what the hooks wrote as the row of a step, and forget it."""
        self._rows[row].copy_(self.current)
        self.current.fill_(torch.nan)

    def table(self, rows: int, silences: dict[str, Silence]) -> NDArray[np.float64]:
        """Work out the statistics of the first ``rows`` rows: ``(rows, columns of all tracks)``."""
        kept = self._rows[:rows].cpu()
        result = np.full((rows, len(self.taps), WIDTH), np.nan)
        for members in _alike(self.taps):
            slabs = [self._slabs(kept, index) for index in members]
            taps = [self.taps[index] for index in members]
            for place, index in enumerate(members):
                assert taps[place].plan is not None  # noqa: S101  # a tap without a plan is in no ring
                silences.setdefault(taps[place].name, Silence(taps[place].plan.size[2]))  # type: ignore[union-attr]
                result[:, index, -1] = slabs[place][3][:, 0].numpy()
            output, inputs, gradient = (torch.stack([slab[i] for slab in slabs]).double() for i in range(3))
            result[:, members, :-1] = _statistics(taps, output, inputs, gradient, silences).permute(1, 0, 2).numpy()
        return result.reshape(rows, -1)

    def _slabs(self, kept: Tensor, index: int) -> list[Tensor]:
        start, parts = self._starts[index], []
        for buffer in self._homes[index]:
            parts.append(kept[:, start : start + buffer.numel()])
            start += buffer.numel()
        return parts


def _alike(taps: list[Tap]) -> Iterable[list[int]]:
    """Group taps that compute the same on slabs of the same size."""
    groups: dict[object, list[int]] = {}
    for index, tap in enumerate(taps):
        if tap.plan is not None:
            groups.setdefault((tap.kind, tap.arguments, tap.plan.size), []).append(index)
    return groups.values()


def _statistics(
    taps: list[Tap], output: Tensor, inputs: Tensor, gradient: Tensor, silences: dict[str, Silence]
) -> Tensor:
    """Statistics of taps that are alike: ``(taps, steps, all but the exact norm)``; slabs are ``(taps, steps, n)``."""
    plan = taps[0].plan
    assert plan is not None  # noqa: S101  # a tap without a plan is in no ring
    read = ~output.isnan().all(-1)
    scale = torch.tensor([float(np.prod(tap.shape)) / plan.count for tap in taps], dtype=torch.float64).sqrt()[:, None]
    moments, clean = _moments(output)
    back, _ = _moments(gradient)
    size = (*output.shape[:2], *plan.size)
    dead, saturated, slope = _slopes(taps, output.reshape(size), inputs, read, silences)
    input_rms = inputs.square().mean(-1).sqrt() if inputs.numel() else torch.full_like(dead, torch.nan)
    norm, *others = moments
    apart = clean.reshape(size) - clean.reshape(size)[:, :, :1]
    spread = apart.var(2, correction=0).mean((-1, -2)) * _unbiased(plan.size[0], taps[0].shape[0])
    spread = torch.full_like(spread, torch.nan) if taps[0].shape[0] < 2 else spread.sqrt()  # noqa: PLR2004  # one sample
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
    finite = values.isfinite()
    clean = torch.where(finite, values, 0.0)
    magnitude = clean.abs()
    count = torch.full(values.shape[:-1], float(values.shape[-1]), dtype=torch.float64)
    bad = (~finite).sum(-1).double()
    zeros = (magnitude == 0).sum(-1).double() - bad
    return [clean.square().sum(-1).sqrt(), count, clean.sum(-1), magnitude.amax(-1), zeros, bad], clean


def _slopes(
    taps: list[Tap], output: Tensor, inputs: Tensor, read: Tensor, silences: dict[str, Silence]
) -> tuple[Tensor, Tensor, Tensor]:
    """Dead and saturated shares, and mean square of the relative slope."""
    unknown = torch.full(read.shape, torch.nan, dtype=torch.float64)
    function = taps[0].nonlinearity
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
    slope = function.slope(argument, output, (argument, *taps[0].arguments), {}).double()
    relative = slope.abs() / function.steepest
    saturated = (relative < _SATURATED).double().mean((-1, -2, -3)) if function.bounded else none
    dead = none
    if function.one_sided:
        active = ((output != 0) | (slope != 0)).flatten(2, 3).any(2)
        dead = torch.stack(
            [silences[tap.name].follow(active[i], read[i]) for i, tap in enumerate(taps)],
        )
    return dead, saturated, relative.square().mean((-1, -2, -3))
