"""Experiments of the lab, ready to be shown: claims, what was measured, verdicts, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graddoctor.show.faces import Faces

LAB_SCHEMA = 1
"""Version of the JSON form of the lab; raised when a field changes its meaning or goes away."""

LabVerdict = Literal["reproduced", "not reproduced", "only under these conditions", "inconclusive"]
Outcome = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Answer:
    """What was measured for one assertion: the mean effect over the seeds, its 95 % interval, and the bound.

    ``above`` says on which side of the bound the effect must lie, ``each`` has one number a seed. A ``control`` is no
    part of the claim, but what the experiment needs to say anything.
    """

    says: str
    outcome: Outcome
    mean: float
    low: float
    high: float
    bound: float
    above: bool
    unit: str = ""
    control: bool = False
    each: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A point or a bar: the mean over the seeds, and the lowest and highest of them.

    ``x_name`` stands where the x axis has words; ``expected`` is what theory gives there, if anything.
    """

    x: float
    y: float
    low: float
    high: float
    x_name: str = ""
    by: str = ""
    panel: str = ""
    expected: float | None = None


@dataclass(frozen=True)
class LabChart:
    """A picture as data."""

    kind: Literal["lines", "bars"]
    x_title: str
    y_title: str
    marks: tuple[Mark, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Tried:
    """An experiment and its outcome.

    Attributes
    ----------
    name, title, claim, source, expected, scaled, lesson
        As in `graddoctor.lab.Experiment`.
    verdict, foreseen
        What was found here, and what the authors of graddoctor found.
    answers, charts
        What was measured.
    seeds, runs, seconds
        How many draws, how many trainings or looks in all, and how long they took together.
    failed
        Why there is no outcome; empty where there is one.
    """

    name: str
    title: str
    claim: str
    source: str
    expected: str
    scaled: str
    lesson: str
    verdict: LabVerdict
    foreseen: LabVerdict
    answers: tuple[Answer, ...] = ()
    charts: tuple[LabChart, ...] = ()
    seeds: int = 0
    runs: int = 0
    seconds: float = 0.0
    failed: str = ""

    @property
    def as_foreseen(self) -> bool:
        """Whether it came out as it did for the authors."""
        return self.verdict == self.foreseen


@dataclass(frozen=True)
class LabReport(Faces):
    """Experiments that were run, ready to be shown.

    Attributes
    ----------
    verdict
        ``"as expected"`` where every experiment came out as it did for the authors, else ``"different"``.
    quick
        Whether it was a quick look: fewer arms, fewer seeds.
    missing
        Names of experiments that were not finished.
    """

    title: str
    verdict: Literal["as expected", "different"]
    headline: str
    experiments: tuple[Tried, ...]
    quick: bool = False
    missing: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["lab"] = "lab"
    schema: int = LAB_SCHEMA

    @property
    def exit_code(self) -> int:
        """0 where all came out as expected, 1 where a verdict differs or an experiment is missing."""
        return 0 if self.verdict == "as expected" and not self.missing else 1

    def report(self) -> LabReport:
        """Return itself."""
        return self
