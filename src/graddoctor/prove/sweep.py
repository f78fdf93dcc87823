"""A sweep of the learning rate: one short run in which the rate climbs through decades, to see where the loss falls.

Source: Smith 2015 (cyclical learning rates), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe
from graddoctor.train import Observer, train

LOWEST, HIGHEST = 1e-5, 1e6
_STEPS = 176
_DIVERGED = 4.0  # the loss is this many times above the best constant predictor's, or above where it began
_SMOOTH = 6
_TOO_HIGH = 10.0  # a climbing rate is best where it has long been too high: a tenth of it trains
_CONTENT = (0.5, 2.0)  # a sweep that asks for a rate within these is content with the given one


@dataclass(frozen=True)
class Sweep:
    """The smoothed loss at each factor of the given rate.

    Attributes
    ----------
    factors, losses
        Factors of the given rate, rising, and the loss there, a mean over six steps; both of one length.
    best
        The factor at which the loss was lowest before it diverged; ``None``: it never fell by a twentieth of the
        baseline. A rate some three times lower trains well (Smith 2015).
    diverged
        The first factor at which the loss was four times the baseline, or where it began; ``None``: it never was.
    """

    factors: NDArray[np.float64]
    losses: NDArray[np.float64]
    best: float | None
    diverged: float | None


def suiting(best: float | None) -> float | None:
    """Return the factor at which a training goes well, to half a decade; ``None``: the given rate, or nothing known."""
    if best is None:
        return None
    factor = 10 ** (round(2 * math.log10(best / _TOO_HIGH)) / 2)
    return None if _CONTENT[0] < factor < _CONTENT[1] else float(f"{factor:.2g}")


class _Climb(Observer):
    """Sets the rate's factor before every step, and stops once the loss has diverged."""

    def __init__(self, factors: NDArray[np.float64], limit: float) -> None:
        self.factors, self.limit, self.rates = factors, limit, [0.0]
        self.start: float | None = None

    @override
    def before_update(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        del model
        self.rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factors[min(step, len(self.factors) - 1)]

    @override
    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        del step, model
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate

    @override
    def losses(self, first: int, values: Sequence[float]) -> None:
        del first
        if self.start is None:
            self.start = float(np.mean(values[:4]))
        bad = [v for v in values if not math.isfinite(v) or v > _DIVERGED * max(self.limit, abs(self.start))]
        self.stop = len(bad) > len(values) // 2


def sweep(
    recipe: Recipe, yardstick: Yardstick, *, steps: int = _STEPS, around: Any = None, deadline: float = math.inf
) -> Sweep:
    """Climb through eleven decades of rate in one short run without a schedule.

    Parameters
    ----------
    yardstick
        Its baseline is what falling and diverging are measured by.
    steps
        Length of the run; the factor grows by the same ratio at each.
    around
        A context that is entered for the run, as in `graddoctor.train.train`.
    deadline
        ``time.monotonic()`` at which it stops wherever it is.

    Raises
    ------
    KeyboardInterrupt
        It was interrupted: there is no half sweep.
    """
    factors = np.geomspace(LOWEST, HIGHEST, steps)
    climb = _Climb(factors, abs(yardstick.baseline))
    options = {} if around is None else {"around": around}
    plain = recipe.with_(scheduler=None, evaluate=None, epochs=max(recipe.epochs, steps))
    outcome = train(plain, steps=steps, observer=climb, deadline=deadline, **options)
    if outcome.ended == "interrupted":
        raise KeyboardInterrupt
    raw = outcome.losses
    if len(raw) < _SMOOTH:
        return Sweep(factors[:0], raw[:0], None, None)
    smooth = np.convolve(np.where(np.isfinite(raw), raw, np.inf), np.ones(_SMOOTH) / _SMOOTH, mode="valid")
    at = factors[_SMOOTH // 2 : _SMOOTH // 2 + len(smooth)]
    if not len(smooth) or not np.isfinite(smooth[0]):
        return Sweep(at, smooth, None, None)
    first = raw[: max(1, len(raw) // 8)]
    start = float(np.mean(first[np.isfinite(first)]))
    limit = _DIVERGED * max(abs(yardstick.baseline), abs(start))
    above = np.flatnonzero(~(smooth <= limit))
    end = int(above[0]) if len(above) else len(smooth)
    lowest = int(np.argmin(smooth[:end])) if end else 0
    fell = start - float(smooth[lowest]) > 0.05 * abs(yardstick.baseline)
    return Sweep(at, smooth, float(at[lowest]) if fell else None, float(at[end]) if end < len(at) else None)
