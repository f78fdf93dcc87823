"""A race: candidates trained for longer and longer, the better half kept at each rung.

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

SHORTEST = 64
"""Steps below which a run says nothing."""

ALIKE = 0.02
"""Scores closer than this count as equal: the order of prescription decides."""


@dataclass(frozen=True)
class Entry:
    """One candidate at one rung: what it scored, whether it went on, and why it was lost (``""``: it was not)."""

    remedy: Remedy | None
    score: float
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


def score_of(result: Result | None, *, by_metric: bool) -> float:
    """Return what a run is worth: its metric where the recipe has one, else its progress; minus infinity if lost."""
    if result is None or result.lost:
        return -math.inf
    value = result.metric if by_metric else result.progress
    return -math.inf if value is None or math.isnan(value) else value


class Race:
    """Runs rungs in a laboratory, and keeps their record.

    Parameters
    ----------
    horizon
        Steps of a full run.
    by_metric
        Whether the recipe's own metric decides.
    """

    def __init__(self, laboratory: Laboratory, horizon: int, *, by_metric: bool) -> None:
        self.laboratory, self.horizon, self.by_metric = laboratory, horizon, by_metric
        self.rungs: list[Rung] = []

    def rung(self, candidates: Sequence[Remedy | None], share: float, keep: int, title: str = "") -> list[Entry]:
        """Train all candidates for a share of the horizon, and return the best of them, the best first.

        One that the deadline left out is no entry.
        """
        unique = list({c.name if c else "": c for c in candidates}.values())
        results = self.laboratory.run(self.tasks(unique, share))
        ran = [(c, r) for c, r in zip(unique, results, strict=True) if r is not None]
        scores = [score_of(r, by_metric=self.by_metric) for _, r in ran]
        order = sorted(range(len(ran)), key=lambda k: (-_step(scores[k]), k))
        kept = [k for k in order if scores[k] > -math.inf][:keep]
        entries = [Entry(c, scores[k], k in kept, r) for k, (c, r) in enumerate(ran)]
        self.rungs.append(Rung(self.steps(share), tuple(entries), title))
        return [entries[k] for k in kept]

    def steps(self, share: float) -> int:
        """Return how many steps a share of the horizon is."""
        return min(self.horizon, max(SHORTEST, math.ceil(share * self.horizon)))

    def tasks(self, candidates: Sequence[Remedy | None], share: float, seed: int = 0) -> list[Task]:
        """Return the trainings of some candidates for a share of the horizon."""
        return [Task(candidate, seed, self.steps(share)) for candidate in candidates]

    def halve(self, candidates: Sequence[Remedy | None], shares: Sequence[float], title: str = "") -> list[Entry]:
        """Run rung after rung, keeping the better half (three at least), down to those that ran the last one."""
        best: list[Entry] = []
        for share in shares:
            last = share == shares[-1]
            best = self.rung(candidates, share, len(candidates) if last else max(3, len(candidates) // 2), title)
            candidates = [entry.remedy for entry in best]
        return best


def _step(score: float) -> float:
    """Round a score to the resolution at which scores differ."""
    return score if math.isinf(score) else round(score / ALIKE)
