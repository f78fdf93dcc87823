"""`fix`: change what causes it, and prove on the user's own model that the change works."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from types import FunctionType

import torch

from graddoctor.check import Checkup, check
from graddoctor.diagnose.examine import INTERRUPTED, STEPS, Tell
from graddoctor.errors import SettingsError, nearest
from graddoctor.prove.executors import executor, foreseen
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.proof import FEWEST, Proof
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.patch import diff_of
from graddoctor.remedies.pharmacy import KEEPABLE
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.source import write_source
from graddoctor.show.compose_cure import compose_cure
from graddoctor.show.cure import CureReport
from graddoctor.show.faces import Faces
from graddoctor.threads import computing_with
from graddoctor.tracebacks import first_line
from graddoctor.treat.treatment import SEEDS, Treatment, Verdict, treat, untreated

SECONDS = 120.0
"""Bound on a fix where none is given."""

_CHECK_SHARE = 0.35  # of the seconds
_LIMIT = (30.0, 20.0)  # a trial is given up after so many seconds, and so many times the plain run


@dataclass(frozen=True)
class Cure(Faces):
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
    trials
        Every training that was run, in order, and what it gave.
    checkup
        What was found before.
    verdict
        ``"sound"``, ``"cured"``, ``"not cured"`` or ``"interrupted"``.
    aborted
        Why it ended early, and how to go on; ``""``: it did not.
    exit_code
        What the command line ends with.
    """

    checkup: Checkup = field(repr=False)
    treatment: Treatment
    seconds: float = 0.0
    workers: int = 0
    threads: int = 1

    @property
    def recipe(self) -> Recipe:
        """The treated recipe."""
        return self.treatment.recipe

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What it consists of."""
        return self.treatment.remedies

    @property
    def proof(self) -> Proof | None:
        """Paired outcomes on fresh seeds."""
        return self.treatment.proof

    @property
    def trials(self) -> tuple[tuple[Task, Result], ...]:
        """Every training that was run."""
        return self.treatment.trials

    @property
    def verdict(self) -> Verdict:
        """What it came to."""
        return self.treatment.verdict

    def apply(self, recipe: Recipe) -> Recipe:
        """Treat another recipe of the same network: another seed, or the full data."""
        return self.treatment.apply(recipe)

    @cached_property
    def _source(self) -> str:
        return write_source(self.treatment.given, self.remedies)

    def source(self) -> str:
        """Return the change as a module of plain PyTorch functions over the user's own builder.

        ``treat_model(model)``, ``make_optimizer(model)`` and what else changed: ``loss``, ``clip``,
        ``make_scheduler``, ``batches``, ``EPOCHS``. It needs no graddoctor.
        """
        return self._source

    def diff(self, module: str = "treated") -> str:
        """Return the change as a patch of the file that the recipe stands in; ``""`` where that cannot be written.

        Parameters
        ----------
        module
            Name of the file, without its suffix, that the source is written to.
        """
        given = self.treatment.given
        parts = (given.model, given.optimizer, given.loss, given.batches)
        files = dict.fromkeys(part.__code__.co_filename for part in parts if isinstance(part, FunctionType))
        found = (diff_of(Path(file), given, self.remedies, module) for file in files if self.remedies)
        return next(filter(None, found), "")

    @cached_property
    def _report(self) -> CureReport:
        with computing_with(self.threads):
            return compose_cure(
                self.checkup.report(),
                self.treatment,
                source=_told(self.source) if self.remedies else "",
                diff=_told(self.diff),
                seconds=self.seconds,
                workers=self.workers,
                threads=self.threads,
            )

    def report(self) -> CureReport:
        """Return the cure as plain data that every face shows."""
        return self._report

    def save(self, path: str | Path) -> None:
        """Write the report (``.html``, ``.json``, ``.md``, ``.txt``, ``.png``, ``.svg``), or the change (``.py``).

        Beside the change goes a patch, ``.diff``, where the recipe's own file can be patched.
        """
        target = Path(path)
        if target.suffix != ".py":
            super().save(target)
            return
        target.write_text(self.source(), encoding="utf-8")
        if diff := self.diff(target.stem):
            target.with_suffix(".diff").write_text(diff, encoding="utf-8")

    @property
    def aborted(self) -> str:
        """Why it ended early; ``""``: it did not."""
        return self.treatment.aborted

    @property
    def exit_code(self) -> int:
        """0 cured or nothing to cure, 1 nothing helped, 130 when it was interrupted."""
        return {"sound": 0, "cured": 0, "not cured": 1, "interrupted": 130}[self.verdict]


def _told(write: Callable[[], str]) -> str:
    """What is written down for a report, or that it cannot be: a cure that is proven is not lost for that."""
    try:
        return write()
    except Exception as problem:  # noqa: BLE001 - whatever the user's objects do when they are written down
        return f"# It cannot be written down: {first_line(problem)}\n"


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
        Seconds that it may take in all (120 by default). It only aborts; what is decided counts steps.
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
    TrialsError
        The file of trials cannot be used, or holds those of another recipe; or there is no such cluster.
    MissingExtraError
        Ray is not installed.
    """
    began = time.monotonic()
    seconds = SECONDS if budget is None else budget
    steps = STEPS if steps is None else steps
    kept = _checked(keep, seeds=seeds, seconds=seconds, steps=steps, threads=threads, workers=workers)
    tell: Tell = progress or (lambda *_: None)
    workers, ray = foreseen(recipe, workers, ray=ray)
    with (
        kept_random_state(),
        torch.enable_grad(),
        computing_with(threads),
        TrialStore(trials, recipe, threads=threads) as store,
    ):
        checkup = checkup or check(recipe, budget=_CHECK_SHARE * seconds, steps=steps, progress=tell)
        interrupted = checkup.examination.aborted == INTERRUPTED
        sound = checkup.verdict == "healthy" and not interrupted
        treatment = untreated(recipe, "sound" if sound else "interrupted")
        if not (sound or interrupted):
            setting = Setting(recipe, checkup.examination.observation.yardstick, threads, _limit(checkup))
            with suppress(KeyboardInterrupt), executor(workers, ray=ray, setting=setting) as pool:
                treatment = treat(
                    recipe,
                    checkup.examination,
                    Laboratory(setting, pool, store, tell),
                    deadline=began + seconds,
                    keep=kept,
                    seeds=seeds,
                    steps=steps,
                )
        treatment = _with_advice(treatment, trials if len(store) else None)
    return Cure(checkup, treatment, time.monotonic() - began, workers, threads)


def _with_advice(treatment: Treatment, trials: str | PathLike[str] | None) -> Treatment:
    """Say how to go on with what ended early, where its trials are in a file."""
    if not treatment.aborted or trials is None:
        return treatment
    again = "run again" if treatment.verdict == "interrupted" else "run again with a longer budget"
    return replace(treatment, aborted=f"{treatment.aborted}; {again}, it goes on where it stopped ({fspath(trials)})")


def _limit(checkup: Checkup) -> float:
    """Seconds after which a trial is given up."""
    least, times = _LIMIT
    return max(least, times * checkup.outcome.seconds)


def _checked(
    keep: Collection[str], *, seeds: int, seconds: float, steps: int, threads: int, workers: int
) -> tuple[str, ...]:
    """Refuse what leaves nothing to run, and warn of what can prove nothing.

    Raises
    ------
    SettingsError
        It leaves nothing to run, or there is no such part to keep.
    """
    kept = (keep,) if isinstance(keep, str) else tuple(keep)
    for part in kept:
        if part not in KEEPABLE:
            msg = f"keep: expected some of {', '.join(KEEPABLE)}, got {part!r}; {nearest(str(part), KEEPABLE)}"
            raise SettingsError(msg)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise SettingsError(f"budget: expected seconds above 0, got {seconds:g}")
    for name, value, least in (
        ("seeds", seeds, 1),
        ("steps", steps, 1),
        ("threads", threads, 1),
        ("workers", workers, 0),
    ):
        if value < least:
            raise SettingsError(f"{name}: expected {least} or more, got {value}")
    if seeds < FEWEST:
        warnings.warn(f"{seeds} seeds can prove nothing, whatever they show: {FEWEST} are the fewest", stacklevel=3)
    return kept
