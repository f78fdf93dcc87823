"""A treatment: search for a cure of what an examination found, prove it on fresh seeds, and say what came of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from graddoctor.diagnose.examine import INTERRUPTED, STEPS, Examination
from graddoctor.diagnose.recurrent_steps import STATES
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.proof import Proof, prove
from graddoctor.prove.task import Result, Task
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.treat.candidates import LARGEST, LARGEST_THROUGH_TIME, Candidates
from graddoctor.treat.race import Race
from graddoctor.treat.search import Found, Search

SEEDS = 5
"""Pairs that a proof consists of: the fewest that can show anything by ranks at an error of 5 %."""

LATE = "the time was used up"
"""What `Treatment.aborted` says where the deadline left something out."""

RACE, PROOF = "race", "proof"
"""What progress calls the two stages."""

_FIRST_FRESH = 101  # numbers of seeds that no earlier stage uses
_PROOF_SHARE = 0.5  # of the seconds left, at most, are kept back for the proof
_SLOWER = 2.0  # a treated run may take so many times as long as the plain one

Verdict = Literal["sound", "cured", "not cured", "interrupted"]


@dataclass(frozen=True)
class Treatment:
    """What came of a treatment.

    Attributes
    ----------
    given, recipe
        The recipe as it was, and as treated: the same one where nothing is wrong or nothing was proven to help.
    remedies
        What was changed, what addresses the first cause first; empty where nothing was.
    proof
        Paired outcomes on fresh seeds; ``None`` where it did not come to that.
    found
        The race.
    trials
        Every training that was run, in order, and what it gave.
    aborted
        Why it ended early (``""``: it did not).
    """

    given: Recipe = field(repr=False)
    recipe: Recipe = field(repr=False)
    remedies: tuple[Remedy, ...]
    verdict: Verdict
    proof: Proof | None = None
    found: Found | None = field(default=None, repr=False)
    trials: tuple[tuple[Task, Result], ...] = field(default=(), repr=False)
    aborted: str = ""

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """Prescriptions and trials that were lost, and why: each once."""
        prescriptions = self.found.failed if self.found else ()
        trials = ((task.name, result.failed) for task, result in self.trials if result.failed)
        return tuple(dict.fromkeys((*prescriptions, *trials)))

    def apply(self, recipe: Recipe) -> Recipe:
        """Treat another recipe of the same network."""
        return edited(recipe, (edit for remedy in self.remedies for edit in remedy.edits))


def untreated(recipe: Recipe, verdict: Verdict) -> Treatment:
    """Leave a recipe as it is."""
    return Treatment(recipe, recipe, (), verdict, aborted=INTERRUPTED if verdict == "interrupted" else "")


def treat(
    recipe: Recipe,
    examination: Examination,
    laboratory: Laboratory,
    *,
    deadline: float,
    keep: Collection[str] = (),
    seeds: int = SEEDS,
    steps: int = STEPS,
) -> Treatment:
    """Search for a cure and prove it; what was known before Ctrl-C stays.

    Parameters
    ----------
    deadline
        ``time.monotonic()`` at which all must end.
    keep, seeds, steps
        As `graddoctor.fix` has them.
    """
    course = _Course(recipe, examination, laboratory, seeds, min(steps, examination.observation.outcome.total_steps))
    return course.run(keep, deadline)


class _Course:
    """One treatment, while it runs."""

    def __init__(
        self, recipe: Recipe, examination: Examination, laboratory: Laboratory, seeds: int, horizon: int
    ) -> None:
        self.recipe, self.examination, self.laboratory = recipe, examination, laboratory
        self.seeds, self.horizon = seeds, horizon
        self.proof: Proof | None = None

    def run(self, keep: Collection[str], deadline: float) -> Treatment:
        laboratory, found = self.laboratory, Found()
        search: Search | None = None
        try:
            in_time = self._in_time()
            largest = LARGEST_THROUGH_TIME if in_time else LARGEST
            candidates = Candidates(self._facts(), laboratory, keep, largest=largest)
            race = Race(laboratory, self.horizon)
            search = Search(laboratory, candidates, race, self._aims(), through_time=in_time)
            laboratory.phase, laboratory.deadline = RACE, deadline - self._reserve(deadline)
            found = search.run()
            laboratory.phase, laboratory.deadline = PROOF, deadline
            if found.remedy is not None:
                self._prove(found.remedy)
        except KeyboardInterrupt:
            if found.remedy is None and search is not None:
                found = search.found()
            return self._end(found, "interrupted", INTERRUPTED)
        aborted = LATE if laboratory.skipped else ""
        proven = self.proof is not None and self.proof.verdict == "better"
        return self._end(found, "cured" if proven else "not cured", aborted)

    def _end(self, found: Found, verdict: Verdict, aborted: str) -> Treatment:
        remedy = found.remedy if verdict == "cured" else None
        return Treatment(
            given=self.recipe,
            recipe=remedy(self.recipe) if remedy else self.recipe,
            remedies=remedy.each if remedy else (),
            verdict=verdict,
            proof=self.proof,
            found=found,
            trials=tuple(self.laboratory.finished),
            aborted=aborted,
        )

    def _prove(self, remedy: Remedy) -> None:
        """Train both sides on seeds that no earlier stage has seen, pair by pair; Ctrl-C leaves the pairs there are."""
        numbers = range(_FIRST_FRESH, _FIRST_FRESH + self.seeds)
        sides = [[Task(side, number, self.horizon) for number in numbers] for side in (None, remedy)]
        try:
            self.laboratory.run([task for pair in zip(*sides, strict=True) for task in pair])
        finally:
            known = {task.key: result for task, result in self.laboratory.finished}
            before, after = ([known.get(task.key) for task in side] for side in sides)
            proof = prove(before, after, numbers, self.seeds)
            self.proof = proof if proof.pairs else None

    def _facts(self) -> Facts:
        seen = self.examination.observation
        norms = tuple(float(norm) for norm in seen.raw_norms[np.isfinite(seen.raw_norms)])
        suspects = tuple(dict.fromkeys(m for f in self.examination.findings for m in f.modules))
        return Facts(self.recipe, norms, seen.outcome.total_steps, suspects)

    def _aims(self) -> tuple[Cause, ...]:
        """What the findings blame, the most severe first."""
        findings = sorted(self.examination.findings, key=lambda f: -f.severity)
        return tuple(dict.fromkeys(cause.kind for finding in findings for cause in finding.causes))

    def _in_time(self) -> bool:
        """Whether a finding is about a state that is carried through time."""
        findings = self.examination.findings
        return any(condition in STATES for f in findings for condition in (f.condition, *f.consequences))

    def _reserve(self, deadline: float) -> float:
        """Seconds that the proof will need."""
        plain = self.examination.observation.outcome.seconds
        left = max(0.0, deadline - time.monotonic())
        return min(_PROOF_SHARE * left, self.seeds * plain * (1 + _SLOWER))
