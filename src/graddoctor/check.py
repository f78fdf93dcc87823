"""`check`: find out why a recipe does not train."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from graddoctor.diagnose.examine import Examination, Tell, examine
from graddoctor.observe.budget import Budget
from graddoctor.recipe import Recipe
from graddoctor.show import Report, save, to_json, to_text
from graddoctor.show.compose import compose
from graddoctor.show.report import Verdict
from graddoctor.terms import Condition, Finding, Severity, Trial
from graddoctor.train import Outcome

STEPS = 2000
SECONDS = 300.0
"""Defaults of the bound on a check: steps of the plain run, and seconds in all."""

_PLAIN_SHARE = 0.4


@dataclass(frozen=True)
class Checkup:
    """What a check found.

    Attributes
    ----------
    verdict
        ``"healthy"``, ``"sick"``, or ``"inconclusive"``: it does not learn and no cause was confirmed.
    findings
        Most severe first; empty when healthy.
    trials, ruled_out
        The experiments that were run, and what they ruled out, a sentence each.
    budget
        The gradient budget before the first step; ``None`` where no trainable path reaches the loss.
    outcome
        What the plain training gave.
    """

    recipe: Recipe = field(repr=False)
    examination: Examination = field(repr=False)

    @property
    def verdict(self) -> Verdict:
        """Healthy, sick or inconclusive."""
        if any(
            f.severity > Severity.NOTE and (f.confirmed or not self.examination.experimented) for f in self.findings
        ):
            return "sick"
        return "healthy" if not self.findings and self.examination.learns else "inconclusive"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, most severe first."""
        return tuple(sorted(self.examination.findings, key=lambda f: -f.severity))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The experiments, in the order in which they were run."""
        return self.examination.trials

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """What was tried and did not help."""
        return self.examination.ruled_out

    @property
    def budget(self) -> Budget | None:
        """Where the gradient goes, before the first step."""
        return self.examination.observation.start.budget

    @property
    def outcome(self) -> Outcome:
        """What the plain training gave."""
        return self.examination.observation.outcome

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 sick or inconclusive, 130 when it was interrupted."""
        if self.examination.aborted == "interrupted":
            return 130
        return 0 if self.verdict == "healthy" else 1

    def report(self) -> Report:
        """Return the checkup as plain data that every face shows."""
        return compose(self.recipe.name or "recipe", self.verdict, self.examination)

    def save(self, path: str | Path) -> None:
        """Write the report; the suffix decides: ``.html``, ``.json``, ``.md``, ``.png`` or ``.svg``."""
        save(self.report(), Path(path))

    def to_json(self) -> str:
        """Return the report as JSON."""
        return to_json(self.report())

    def __str__(self) -> str:
        return to_text(self.report())

    def _repr_html_(self) -> str:
        from graddoctor.show.notebook import notebook_html  # noqa: PLC0415 - the charts' libraries load only when asked for

        return notebook_html(self.report())

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from graddoctor.show.notebook import mimebundle  # noqa: PLC0415

        return mimebundle(self.report(), include, exclude)


def check(
    recipe: Recipe,
    *,
    budget: float | None = None,
    steps: int | None = None,
    experiments: bool = True,
    ignore: Collection[Condition] = (),
    progress: Tell | None = None,
) -> Checkup:
    """Train a recipe as it says, look on, and put what is suspected to short paired experiments.

    The caller's network, random state, optimizer and files stay as they are.

    Parameters
    ----------
    budget
        Seconds that it may take in all (300 by default). It only aborts; what is decided counts steps.
    steps
        The plain run takes so many steps at most (2000 by default), through the whole of its schedule.
    experiments
        Without them severity follows from symptoms alone, and nothing is confirmed.
    ignore
        Conditions that are not to be told.
    progress
        Called as ``progress(phase, done, total, detail)``; `graddoctor.show.Progress` draws it.

    Raises
    ------
    RecipeError
        The recipe cannot be trained as it is; the message says why and what to do.

    Examples
    --------
    >>> import graddoctor as gd
    >>> checkup = gd.check(gd.testing.patient("initialization_tiny").recipe)  # doctest: +SKIP
    >>> checkup.verdict  # doctest: +SKIP
    'sick'
    """
    now = time.monotonic()
    seconds = SECONDS if budget is None else budget
    examination = examine(
        recipe,
        steps=STEPS if steps is None else steps,
        deadline=now + seconds,
        plain_deadline=now + (_PLAIN_SHARE * seconds if experiments else seconds),
        experiments=experiments,
        ignore=frozenset(ignore),
        tell=progress or (lambda *_: None),
    )
    return Checkup(recipe, examination)
