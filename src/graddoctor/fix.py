"""`fix`: change what causes it, and prove on the user's own model that the change works."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from graddoctor.check import Checkup, check
from graddoctor.diagnose.examine import INTERRUPTED, STEPS, Tell
from graddoctor.errors import SettingsError, nearest
from graddoctor.prove.executors import executor
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.proof import Proof, prove
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.pharmacy import KEEPABLE
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.source import write_source
from graddoctor.terms import Cause
from graddoctor.treat.candidates import Candidates
from graddoctor.treat.race import Race
from graddoctor.treat.search import Found, Search

SEEDS = 5
"""Pairs that a proof consists of: the fewest that can show anything by ranks at an error of 5 %."""

SECONDS = 150.0
"""Bound on a fix where none is given."""

_FIRST_FRESH = 101  # numbers of seeds that no earlier stage uses
_CHECK_SHARE = 0.35  # of the seconds
_PROOF_SHARE = 0.5  # at most, kept back for the proof
_SLOWER = 2.0  # a treated run may take so many times as long as the plain one
_LIMIT = (30.0, 20.0)  # a trial is given up after so many seconds, and so many times the plain run

Verdict = Literal["sound", "cured", "not cured", "interrupted"]


@dataclass(frozen=True)
class Cure:
    """What a fix came to.

    Attributes
    ----------
    recipe
        The treated recipe, complete: any loop that trains it gets what was proven. The given one, unchanged, where
        nothing is wrong or nothing was proven to help.
    remedies
        What it consists of, what addresses the first cause first; empty where nothing is changed.
    proof
        Paired outcomes on fresh seeds; ``None`` where it did not come to that.
    checkup
        What was found before.
    trials
        Every training that was run, in order, and what it gave.
    found
        The race.
    verdict
        ``"sound"``, ``"cured"``, ``"not cured"`` or ``"interrupted"``.
    aborted
        Why it ended early (``""``: it did not).
    """

    recipe: Recipe = field(repr=False)
    remedies: tuple[Remedy, ...]
    proof: Proof | None
    checkup: Checkup = field(repr=False)
    trials: tuple[tuple[Task, Result], ...] = field(default=(), repr=False)
    found: Found | None = field(default=None, repr=False)
    verdict: Verdict = "sound"
    aborted: str = ""
    seconds: float = 0.0
    workers: int = 0
    threads: int = 1

    def apply(self, recipe: Recipe) -> Recipe:
        """Treat another recipe of the same network: another seed, or the full data."""
        return edited(recipe, (edit for remedy in self.remedies for edit in remedy.edits))

    @cached_property
    def _source(self) -> str:
        return write_source(self.checkup.recipe, self.remedies)

    def source(self) -> str:
        """Return the change as a module of plain PyTorch functions over the user's own builder.

        ``treat_model(model)``, ``make_optimizer(model)`` and what else changed: ``loss``, ``clip``,
        ``make_scheduler``, ``batches``, ``EPOCHS``. It needs no graddoctor.
        """
        return self._source

    @property
    def exit_code(self) -> int:
        """0 cured or nothing to cure, 1 nothing helped, 130 when it was interrupted."""
        return {"sound": 0, "cured": 0, "not cured": 1, "interrupted": 130}[self.verdict]


def fix(
    recipe: Recipe,
    *,
    keep: Collection[str] = (),
    checkup: Checkup | None = None,
    seeds: int = SEEDS,
    budget: float | None = None,
    steps: int | None = None,
    workers: int = 0,
    ray: bool | str = False,
    threads: int = 1,
    trials: str | PathLike[str] | None = None,
    progress: Tell | None = None,
) -> Cure:
    """Screen the remedies that a checkup asks for, race the best, and prove the winner on fresh seeds.

    Parameters
    ----------
    recipe
        What is trained. Its builders are called many times over, and it stays as it is.
    keep
        What must not change, of ``"architecture"``, ``"weights"``, ``"optimizer"``, ``"loss"``, ``"data"``.
    checkup
        One of this recipe, to be used instead of a new one.
    seeds
        Fresh seeds of the proof; fewer than 5 can prove nothing.
    budget
        Seconds that it may take in all (150 by default). It only aborts; what is decided counts steps.
    steps
        A full run takes so many steps at most (2000 by default), through the whole of its schedule.
    workers
        Processes that train side by side; 0: this one.
    ray
        Train on Ray instead: ``True`` starts it here, a string is the address of a cluster.
    threads
        Threads that every training computes with, wherever it runs.
    trials
        A SQLite file that every finished trial is written into at once; a fix that is run again with it goes on where
        it stopped.
    progress
        Called as ``progress(phase, done, total, detail)``; `graddoctor.show.Progress` draws it.

    Returns
    -------
    Cure
        After Ctrl-C too, with what was known until then.

    Raises
    ------
    RecipeError
        The recipe cannot be trained as it is.
    SettingsError
        A number leaves nothing to run, or ``keep`` names what is none.
    """
    began = time.monotonic()
    seconds = SECONDS if budget is None else budget
    kept = _checked(keep, seeds, seconds, threads, workers)
    tell: Tell = progress or (lambda *_: None)
    checkup = checkup or check(recipe, budget=_CHECK_SHARE * seconds, steps=steps, progress=tell)
    fixing = _Fix(recipe, checkup, kept, began + seconds, seeds, horizon=min(steps or STEPS, _planned(checkup)))
    if checkup.verdict == "healthy":
        return fixing.cure("sound", began, workers, threads)
    if checkup.examination.aborted == INTERRUPTED:
        return fixing.cure("interrupted", began, workers, threads)
    setting = Setting(recipe, checkup.examination.observation.yardstick, threads, _limit(checkup))
    with TrialStore(trials, recipe) as store, executor(workers, ray=ray, setting=setting) as pool:
        fixing.run(Laboratory(setting, pool, store, tell))
    return fixing.cure(fixing.verdict, began, workers, threads)


class _Fix:
    """One fix, while it runs."""

    def __init__(
        self, recipe: Recipe, checkup: Checkup, keep: Collection[str], deadline: float, seeds: int, *, horizon: int
    ) -> None:
        self.recipe, self.checkup, self.keep = recipe, checkup, keep
        self.deadline, self.seeds, self.horizon = deadline, seeds, horizon
        self.laboratory: Laboratory | None = None
        self.found: Found | None = None
        self.proof: Proof | None = None
        self.aborted = ""
        self.verdict: Verdict = "not cured"

    def run(self, laboratory: Laboratory) -> None:
        """Search and prove; what was known before Ctrl-C stays."""
        self.laboratory = laboratory
        by_metric = self.recipe.evaluate is not None
        search = Search(
            laboratory,
            Candidates(self._facts(), laboratory, self.keep),
            Race(laboratory, self.horizon, by_metric=by_metric),
            self._aims(),
        )
        try:
            laboratory.deadline = self.deadline - self._reserve()
            self.found = search.run()
            laboratory.deadline = self.deadline
            if self.found.remedy is not None:
                self.proof = self._prove(self.found.remedy, laboratory)
        except KeyboardInterrupt:
            self.found = self.found or search.found()
            self.verdict, self.aborted = "interrupted", INTERRUPTED
            return
        if laboratory.skipped:
            self.aborted = "the time was used up"
        if self.proof is not None and self.proof.verdict == "better":
            self.verdict = "cured"

    def _prove(self, remedy: Remedy, laboratory: Laboratory) -> Proof:
        """Train both sides on seeds that no earlier stage has seen, pair by pair."""
        numbers = range(_FIRST_FRESH, _FIRST_FRESH + self.seeds)
        tasks = [Task(side, number, self.horizon) for number in numbers for side in (None, remedy)]
        results = laboratory.run(tasks)
        pairs = [(n, b, a) for n, b, a in zip(numbers, results[::2], results[1::2], strict=True) if b and a]
        return prove([b for _, b, _ in pairs], [a for _, _, a in pairs], [n for n, _, _ in pairs], self.seeds)

    def _facts(self) -> Facts:
        seen = self.checkup.examination.observation
        norms = tuple(float(norm) for norm in seen.raw_norms[np.isfinite(seen.raw_norms)])
        suspects = tuple(dict.fromkeys(m for f in self.checkup.findings for m in f.modules))
        return Facts(self.recipe, norms, self.horizon, suspects)

    def _aims(self) -> tuple[Cause, ...]:
        """What the findings blame, the most severe first."""
        return tuple(dict.fromkeys(cause.kind for finding in self.checkup.findings for cause in finding.causes))

    def _reserve(self) -> float:
        """Seconds that the proof will need."""
        plain = self.checkup.outcome.seconds
        left = self.deadline - time.monotonic()
        return min(_PROOF_SHARE * left, self.seeds * plain * (1 + _SLOWER))

    def cure(self, verdict: Verdict, began: float, workers: int, threads: int) -> Cure:
        """Put together what there is."""
        remedy = self.found.remedy if self.found and verdict == "cured" else None
        return Cure(
            recipe=remedy(self.recipe) if remedy else self.recipe,
            remedies=remedy.each if remedy else (),
            proof=self.proof,
            checkup=self.checkup,
            trials=tuple(self.laboratory.finished) if self.laboratory else (),
            found=self.found,
            verdict=verdict,
            aborted=self.aborted,
            seconds=time.monotonic() - began,
            workers=workers,
            threads=threads,
        )


def _planned(checkup: Checkup) -> int:
    return checkup.outcome.total_steps


def _limit(checkup: Checkup) -> float:
    least, times = _LIMIT
    return max(least, times * checkup.outcome.seconds)


def _checked(keep: Collection[str], seeds: int, seconds: float, threads: int, workers: int) -> tuple[str, ...]:
    """Refuse what leaves nothing to run.

    Raises
    ------
    SettingsError
        It does.
    """
    kept = (keep,) if isinstance(keep, str) else tuple(keep)
    for part in kept:
        if part not in KEEPABLE:
            raise SettingsError(f"keep: expected some of {', '.join(KEEPABLE)}, got {part!r}; {nearest(part, KEEPABLE)}")
    if not (seeds >= 1 and seconds > 0 and math.isfinite(seconds) and threads >= 1 and workers >= 0):
        msg = (
            f"expected 1 seed or more, a budget above 0 seconds, 1 thread or more and 0 workers or more, "
            f"got {seeds}, {seconds:g}, {threads} and {workers}"
        )
        raise SettingsError(msg)
    return kept
