"""A race: candidates trained for longer and longer, the best third kept at each rung.

Source: Jamieson and Talwalkar 2016 (successive halving). Every rung runs through its own complete schedule, and rungs
are begun only when all of the one before are known, so that the same race is run whatever the order of finishing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.task import Result, Task
from graddoctor.remedies.remedy import Remedy
from graddoctor.treat.worth import worth_of

SHORTEST = 64
"""Steps below which a run says nothing."""

_ETA, _LEAST = 3, 3  # the share of candidates that goes on, as one in so many, and how many at least

ALIKE = 0.02
"""Shares of the gap closer than this count as equal: the order of prescription decides."""


@dataclass(frozen=True)
class Entry:
    """One candidate at one rung.

    Attributes
    ----------
    score
        Its metric where the recipe has one, else its progress; ``nan`` where it was lost.
    worth
        Share of the gap that it closes, as `graddoctor.treat.worth.worth_of` has it, among those of its rung.
    kept
        Whether it went on.
    """

    remedy: Remedy | None
    score: float
    worth: float
    kept: bool
    result: Result = field(repr=False)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.remedy.name if self.remedy else "as given"


@dataclass(frozen=True)
class Rung:
    """So many steps, and how the candidates that had come so far did."""

    steps: int
    entries: tuple[Entry, ...]
    title: str = ""


class Race:
    """Runs rungs in a laboratory, and keeps their record.

    Parameters
    ----------
    horizon
        Steps of a full run.

    Attributes
    ----------
    base
        The recipe as given, at full length, which all are compared with; ``None`` before it was run.
    """

    def __init__(self, laboratory: Laboratory, horizon: int) -> None:
        self.laboratory, self.horizon = laboratory, horizon
        self.base: Entry | None = None
        self.rungs: list[Rung] = []

    def begin(self) -> Entry | None:
        """Train the recipe as given; ``None`` where even that was too late."""
        (result,) = self.laboratory.run(self.tasks([None], 1.0))
        if result is not None:
            self.base = Entry(None, _score(result), 0.0, not result.lost, result)
            self.rungs.append(Rung(self.horizon, (self.base,), "as given"))
        return self.base

    def rung(self, candidates: Sequence[Remedy | None], share: float, keep: int, title: str = "") -> list[Entry]:
        """Train all candidates for a share of the horizon, and return the best of them, the best first.

        One that the deadline left out is no entry.
        """
        unique = list({c.name if c else "": c for c in candidates}.values())
        results = self.laboratory.run(self.tasks(unique, share))
        ran = [(c, r) for c, r in zip(unique, results, strict=True) if r is not None]
        worth = self.worth([r for _, r in ran])
        order = sorted(range(len(ran)), key=lambda k: (-_step(worth[k]), k))
        kept = [k for k in order if worth[k] > -math.inf][:keep]
        entries = [Entry(c, _score(r), worth[k], k in kept, r) for k, (c, r) in enumerate(ran)]
        self.rungs.append(Rung(self.steps(share), tuple(entries), title))
        return [entries[k] for k in kept]

    def worth(self, results: Sequence[Result]) -> list[float]:
        """Judge runs against the recipe as given, and against each other."""
        assert self.base is not None  # noqa: S101 - every race begins with it
        return worth_of(results, self.base.result)

    def steps(self, share: float) -> int:
        """Return how many steps a share of the horizon is."""
        return min(self.horizon, max(SHORTEST, math.ceil(share * self.horizon)))

    def tasks(self, candidates: Sequence[Remedy | None], share: float, seed: int = 0) -> list[Task]:
        """Return the trainings of some candidates for a share of the horizon."""
        return [Task(candidate, seed, self.steps(share)) for candidate in candidates]

    def halve(self, candidates: Sequence[Remedy | None], shares: Sequence[float], title: str = "") -> list[Entry]:
        """Run rung after rung, keeping the best third (three at least), down to those that ran the last one."""
        best: list[Entry] = []
        lengths = {self.steps(share): share for share in shares}  # short runs have fewer rungs
        for share in lengths.values():
            keep = len(candidates) if share == shares[-1] else max(_LEAST, len(candidates) // _ETA)
            best = self.rung(candidates, share, keep, title)
            candidates = [entry.remedy for entry in best]
        return best


def _step(worth: float) -> float:
    """Round to the resolution at which candidates differ."""
    return worth if math.isinf(worth) else round(worth / ALIKE)


def _score(result: Result) -> float:
    value = result.progress if result.metric is None else result.metric
    return math.nan if result.lost else value
