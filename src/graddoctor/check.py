"""`check`: find out why a recipe does not train."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from os import PathLike

from graddoctor.diagnose.examine import INTERRUPTED, SECONDS, STEPS, Examination, Tell, examine
from graddoctor.errors import SettingsError, nearest
from graddoctor.observe.budget import Budget
from graddoctor.recipe import Recipe
from graddoctor.recording import Recording
from graddoctor.show import Report
from graddoctor.show.compose import compose
from graddoctor.show.faces import Faces
from graddoctor.show.report import Verdict
from graddoctor.terms import Condition, Finding, Trial
from graddoctor.train import Outcome


@dataclass(frozen=True)
class Checkup(Faces):
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
    recording
        What was observed of it: every step's loss, rate and gradient norm, and every probe.
    exit_code
        What the command line ends with.

    Examples
    --------
    >>> import torch
    >>> recipe = Recipe(
    ...     model=lambda: torch.nn.Linear(2, 1),
    ...     loss=lambda model, batch: (model(batch) - batch.sum(1, keepdim=True)).square().mean(),
    ...     batches=[torch.eye(2), -torch.eye(2)],
    ...     optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.3),
    ...     epochs=50,
    ... )
    >>> checkup = check(recipe)
    >>> checkup.verdict, checkup.findings, checkup.exit_code
    ('healthy', (), 0)
    >>> int(checkup.recording.steps[-1])
    100
    """

    recipe: Recipe = field(repr=False)
    examination: Examination = field(repr=False)
    recording: Recording = field(repr=False)

    @property
    def verdict(self) -> Verdict:
        """Healthy, sick or inconclusive."""
        return self.examination.verdict

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
        if self.examination.aborted == INTERRUPTED:
            return 130
        return 0 if self.verdict == "healthy" else 1

    def report(self) -> Report:
        """Return the checkup as plain data that every face shows."""
        return compose(self.recipe.name or "recipe", self.verdict, self.examination)


def check(
    recipe: Recipe,
    *,
    budget: float | None = None,
    steps: int | None = None,
    experiments: bool = True,
    ignore: Collection[Condition | str] = (),
    progress: Tell | None = None,
    recording: Recording | str | PathLike[str] | None = None,
) -> Checkup:
    """Train a recipe as it says, look on, and put what is suspected to short paired experiments.

    The caller's network, random state, optimizer and files stay as they are.

    Parameters
    ----------
    recipe
        What is trained. Its builders are called many times over.
    budget
        Seconds that it may take in all (300 by default). It only aborts; what is decided counts steps.
    steps
        The plain run takes so many steps at most (2000 by default), through the whole of its schedule.
    experiments
        Without them severity follows from symptoms alone, and nothing is confirmed.
    ignore
        Conditions, or their names, that are not to be told.
    progress
        Called as ``progress(phase, done, total, detail)``; `graddoctor.show.Progress` draws it.
    recording
        A new file to write down in what is observed, or a recording that is open; otherwise it is kept in memory. What
        was written stays if the recipe's own code raises.

    Returns
    -------
    Checkup
        After Ctrl-C too, with what was seen until then.

    Raises
    ------
    RecipeError
        The recipe cannot be trained as it is; the message says why and what to do.
    RecordingError
        There is a file at ``recording`` already, or it cannot be written.
    SettingsError
        There is no such condition, or ``budget`` or ``steps`` leave nothing to run.

    Examples
    --------
    >>> import graddoctor as gd
    >>> checkup = gd.check(gd.testing.patient("init_normal_tiny").recipe)  # doctest: +SKIP
    >>> checkup.verdict  # doctest: +SKIP
    'sick'
    """
    steps = STEPS if steps is None else steps
    seconds = SECONDS if budget is None else budget
    if not (seconds > 0 and steps >= 1):
        msg = f"expected a budget above 0 seconds and 1 step or more, got {seconds:g} seconds and {steps} steps"
        raise SettingsError(msg)
    ignored = frozenset(map(_condition, [ignore] if isinstance(ignore, str) else ignore))
    mine = not isinstance(recording, Recording)
    book = _opened(recording)
    try:
        examination = examine(
            recipe,
            steps=steps,
            seconds=seconds,
            experiments=experiments,
            ignore=ignored,
            tell=progress or (lambda *_: None),
            recording=book,
        )
    finally:
        (book.close if mine else book.flush)()
    return Checkup(recipe, examination, book)


def _opened(recording: Recording | str | PathLike[str] | None) -> Recording:
    if isinstance(recording, Recording):
        return recording
    return Recording() if recording is None else Recording.create(recording)


def _condition(name: Condition | str) -> Condition:
    if isinstance(name, Condition):
        return name
    known = {condition.value: condition for condition in Condition}
    if name not in known:
        raise SettingsError(f"ignore: no condition {name!r}; {nearest(str(name), known)}")
    return known[name]
