"""An experiment: the recipe with one thing changed, trained for a share of the plain run, and what that gained."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from graddoctor.prove.yardstick import Yardstick, smoothed, window_of, yardstick_of
from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.tracebacks import first_line
from graddoctor.train import Observer, Outcome, train

HALF = 0.5
ENOUGH = 0.5
"""A change that gives back this share of what is missing is the answer: no further experiment is needed."""

NOTICEABLE = 0.12
"""Smallest gain in progress at half length that noise between sound runs does not reach."""

_SURE = 1.2  # an experiment ends early once it has this many times what is enough
_EARLIEST = 1 / 8
_SHORTEST = 64  # steps: below that a run says nothing, however short the plain one was
_METRIC_SLACK = 0.01
_LARGE = 16_000_000  # bytes of parameters from which on memory is given back at once


@dataclass(frozen=True)
class Plain:
    """The run as given, which every experiment is compared with.

    Attributes
    ----------
    progress
        Share of the baseline that its smoothed loss had removed at its end (0 to 1, more for losses below zero).
    """

    outcome: Outcome
    yardstick: Yardstick
    progress: float

    @property
    def missing(self) -> float:
        """What is left to gain."""
        return max(0.0, 1.0 - self.progress)


@dataclass(frozen=True)
class Arm:
    """One experiment: the change, how long it ran, and what it gained over the plain run at its end.

    Attributes
    ----------
    recipe
        The treated recipe; the given one where the change failed.
    outcome
        What training it gave; ``None`` where the change failed.
    progress, gain
        Share of the baseline removed at its end, and the difference to the plain run *at its end*.
    share
        Share of the plain run's steps that it was given.
    metric_gain
        Difference of the recipe's metric to the plain run's (0 where it has none).
    lead
        Difference in progress to the plain run after as many steps: what speaks for running it longer.
    failed
        The first line of what was raised.
    """

    remedy: Remedy
    recipe: Recipe = field(repr=False)
    outcome: Outcome | None = field(repr=False)
    progress: float
    gain: float
    share: float
    metric_gain: float = 0.0
    lead: float = 0.0
    failed: str = ""

    @property
    def cause(self) -> Cause:
        """What the change undoes."""
        return self.remedy.causes[0]

    @property
    def early(self) -> bool:
        """Whether it was stopped because it clearly helped."""
        return self.outcome is not None and self.outcome.ended == "stopped"

    @property
    def short(self) -> bool:
        """Whether it says nothing of the end of a whole run."""
        return self.share < 1 or self.early

    @property
    def contradicted(self) -> bool:
        """Whether the metric got worse while the loss got better."""
        return self.metric_gain < -_METRIC_SLACK

    def without_network(self) -> Arm:
        """Return what is to be remembered: a large network would otherwise be held a dozen times."""
        return replace(self, outcome=self.outcome and replace(self.outcome, model=nn.Module()))

    @property
    def evaluation(self) -> float | None:
        """The recipe's metric at the end, if it has one."""
        return self.outcome.evaluation if self.outcome else None


class Bench:
    """Runs experiments on one recipe, each at most once at each length, within one budget of steps and seconds.

    Parameters
    ----------
    steps
        Training steps that all experiments may take together.
    deadline
        ``time.monotonic()``, in seconds, after which none is begun and the one that runs is cut short.
    announce
        Told the name of each before it runs.
    """

    def __init__(
        self,
        recipe: Recipe,
        plain: Plain,
        *,
        steps: int,
        deadline: float = math.inf,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.recipe, self.plain = recipe, plain
        self.steps_left, self.deadline, self.announce = steps, deadline, announce
        self.arms: dict[tuple[str, float, bool], Arm] = {}
        self.aborted = ""

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.deadline

    @property
    def exhausted(self) -> bool:
        """Whether the budget leaves no room for another experiment."""
        if self.late:
            self.aborted = "the time for experiments was used up"
        elif self.steps_left <= 0:
            self.aborted = "the steps for experiments were used up"
        return bool(self.aborted)

    def enough(self, arm: Arm) -> bool:
        """Whether half of what is missing is back."""
        return arm.gain >= self._half_of_missing()

    def _half_of_missing(self) -> float:
        return max(ENOUGH * self.plain.missing, NOTICEABLE)

    def run(self, remedy: Remedy, share: float = HALF, *, whole: bool = False) -> Arm:
        """Train the treated recipe for a share of the plain run's steps.

        Parameters
        ----------
        whole
            Train to the end of that share, also when it clearly helps before.
        """
        key = (remedy.name, share, whole)
        if key not in self.arms:
            self.announce(remedy.name)
            self._forget_networks()
            self.arms[key] = self._run(remedy, share, whole=whole)
        return self.arms[key]

    def _forget_networks(self) -> None:
        """Let go of the networks of all but the last arm: a large one would otherwise be held a dozen times.

        Wrapped forwards hold their own networks in circles, which wait for the collector; large ones should not.
        """
        if sum(p.nbytes for p in self.plain.outcome.model.parameters()) > _LARGE:
            gc.collect()
        for key, arm in list(self.arms.items())[:-1]:
            self.arms[key] = arm.without_network()

    def _run(self, remedy: Remedy, share: float, *, whole: bool) -> Arm:
        total = max(self.plain.outcome.steps, min(_SHORTEST, self.plain.outcome.total_steps))
        if self.plain.outcome.ended == "non-finite":
            total = self.plain.outcome.total_steps
        steps = min(total, max(_SHORTEST, math.ceil(share * total)))
        try:
            treated = remedy(self.recipe)
            yardstick = yardstick_of(treated, remedy, self.plain.yardstick)
            goal = math.inf if whole else self.plain.progress + _SURE * self._half_of_missing()
            window = window_of(self.plain.outcome.steps_per_epoch, steps)
            watcher = _Goal(yardstick, goal, window, first=math.ceil(_EARLIEST * total))
            outcome = train(treated, steps=steps, observer=watcher, around=remedy.around, deadline=self.deadline)
        except Exception as error:  # noqa: BLE001 - a change that does not fit this network is lost, not the check
            self.steps_left -= 1
            return Arm(remedy, self.recipe, None, 0.0, -self.plain.progress, share, failed=first_line(error))
        self.steps_left -= outcome.steps
        if outcome.ended == "interrupted":
            raise KeyboardInterrupt
        progress = yardstick.progress(smoothed(outcome.losses, window))
        gain = progress - self.plain.progress
        lead = progress - self._plain_progress(outcome.steps, window)
        return Arm(remedy, treated, outcome, progress, gain, share, self._metric_gain(outcome), lead)

    def _plain_progress(self, steps: int, window: int) -> float:
        """Progress of the plain run after so many steps."""
        return self.plain.yardstick.progress(smoothed(self.plain.outcome.losses[:steps], window))

    def _metric_gain(self, outcome: Outcome) -> float:
        """Difference in the recipe's metric; 0 where there is none, minus infinity where it is lost."""
        mine, before = outcome.evaluation, self.plain.outcome.evaluation
        if mine is None or before is None or math.isnan(before):
            return 0.0
        return -math.inf if math.isnan(mine) else mine - before


class _Goal(Observer):
    """Stops a run once its smoothed progress is where it needs to be."""

    def __init__(self, yardstick: Yardstick, goal: float, window: int, first: int) -> None:
        self.yardstick, self.goal, self.window, self.first = yardstick, goal, window, first
        self.seen: list[float] = []

    @override
    def losses(self, first: int, values: Sequence[float]) -> None:
        self.seen = [*self.seen[-self.window :], *values]
        if first + len(values) < self.first:
            return
        tail: NDArray[np.float64] = np.asarray(self.seen, dtype=np.float64)
        self.stop = self.yardstick.progress(smoothed(tail, self.window)) >= self.goal
