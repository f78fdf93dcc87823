"""A cure, ready to be shown: what `fix` found, tried and proved, as plain frozen data that survives JSON both ways.

A *score* or *outcome* is higher where training went better. ``nan`` stands where a run gave no number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graddoctor.errors import GraddoctorError
from graddoctor.show.explanation import Explanation
from graddoctor.show.faces import Faces
from graddoctor.show.lab import LabReport
from graddoctor.show.prediction import PredictionReport
from graddoctor.show.report import LossCurve, Report, Waterfall
from graddoctor.terms import Cause

CURE_SCHEMA = 1
"""Version of the JSON form of a cure; raised when a field changes its meaning or goes away, not when one is added."""

POINTS = 64
"""Points that a loss curve of a cure has at most."""

CureVerdict = Literal["sound", "cured", "not cured", "interrupted"]
Measure = Literal["metric", "progress"]
ProofVerdict = Literal["better", "no difference shown", "worse"]

_VERDICTS = ("sound", "cured", "not cured", "interrupted")


@dataclass(frozen=True)
class Prescription:
    """One remedy of the cure.

    Attributes
    ----------
    name
        What reports call it.
    causes
        What it changes; the first is the reason why it was chosen.
    source
        Where the literature has it.
    cost
        What it costs, a few words (``""``: nothing).
    modules
        The modules it changes; empty where it changes the whole.
    """

    name: str
    causes: tuple[Cause, ...] = ()
    source: str = ""
    cost: str = ""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairedOutcome:
    """One seed of the proof, trained as given and as treated.

    ``before_ended`` and ``after_ended`` say how either training came to its end, as `graddoctor.train.Outcome` has it.
    """

    seed: int
    before: float
    after: float
    difference: float
    before_ended: str = "complete"
    after_ended: str = "complete"


@dataclass(frozen=True)
class Evidence:
    """What fresh seeds say.

    Attributes
    ----------
    measure
        ``"metric"`` (the recipe's own) or ``"progress"`` (share of the best constant predictor's loss that is gone).
    verdict
        ``"better"``, ``"no difference shown"`` or ``"worse"``.
    mean, low, high
        Mean difference, after minus before, and its paired 95 % interval.
    error
        Chance of such a result where there is no difference.
    planned, distinct
        Pairs that were planned, and pairs that count: seeds that drew the same count once.
    pairs
        One a seed; fewer than planned where it was interrupted.
    cost_per_step
        Seconds per step, after over before; ``nan`` where it was not measured.
    parameters_before, parameters_after
        Trainable numbers.
    sentence
        What follows from it, for a reader who does no statistics.
    name
        What was put to the proof; a cure that failed it is named here only.
    """

    measure: Measure
    verdict: ProofVerdict
    mean: float
    low: float
    high: float
    error: float
    planned: int = 5
    distinct: int = 0
    pairs: tuple[PairedOutcome, ...] = ()
    cost_per_step: float = math.nan
    parameters_before: int = 0
    parameters_after: int = 0
    sentence: str = ""
    name: str = ""


@dataclass(frozen=True)
class Curves:
    """Training losses of one run as given and one as treated, on the same fresh seed: at most 64 points each."""

    before: LossCurve
    after: LossCurve
    seed: int = 0


@dataclass(frozen=True)
class Budgets:
    """Gradient budgets at the start of training, as given and as treated; ``None`` where there is none."""

    before: Waterfall | None = None
    after: Waterfall | None = None

    @property
    def both(self) -> tuple[Waterfall, Waterfall] | None:
        """The two, where both have rows to put side by side."""
        if self.before is None or self.after is None or not (self.before.rows and self.after.rows):
            return None
        return self.before, self.after

    @property
    def single(self) -> Waterfall | None:
        """The one that has rows, where only one has."""
        drawn = [one for one in (self.before, self.after) if one is not None and one.rows]
        return drawn[0] if len(drawn) == 1 else None


@dataclass(frozen=True)
class Entry:
    """A candidate on one rung of the race: how far it got, whether it went on, and if not, why (``lost``)."""

    name: str
    score: float
    kept: bool = False
    lost: str = ""


@dataclass(frozen=True)
class Rung:
    """One rung of the race: every candidate on it, trained for so many steps, and the stage that it belongs to."""

    steps: int
    entries: tuple[Entry, ...]
    title: str = ""


@dataclass(frozen=True)
class Race:
    """Successive halving: rungs in their order, the name of the winner (``""``: nobody won), and what scores are.

    A rung may hold candidates that were on none before: combinations of those that did best.
    """

    rungs: tuple[Rung, ...]
    winner: str = ""
    measure: Measure = "progress"


@dataclass(frozen=True)
class FailedTrial:
    """A candidate that could not be trained, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Effort:
    """What the search took: training steps, seconds, how many plain runs those steps are, and on what it ran.

    ``workers`` is 0 where all of it ran in the calling process; ``threads`` are those of each worker.
    """

    steps: int = 0
    seconds: float = 0.0
    plain_runs: float = math.nan
    workers: int = 1
    threads: int = 1


@dataclass(frozen=True)
class CureReport(Faces):
    """What `fix` did, ready to be shown: text, HTML, Markdown, JSON, notebooks and pictures are faces of this object.

    Attributes
    ----------
    title
        What was treated: the recipe's name, or its file.
    verdict, headline
        ``"sound"`` (nothing was changed), ``"cured"``, ``"not cured"`` or ``"interrupted"``, and one sentence why.
    checkup
        The checkup it began with.
    remedies
        What the cure consists of; empty when nothing is changed.
    proof, curves, budgets, race
        The evidence and the pictures; ``None`` where it did not come to that.
    failed
        Candidates that could not be trained.
    effort
        What all of it took.
    aborted
        Why it ended early, a clause without a full stop (``""``: it did not).
    source, diff
        The treated parts as a Python module, and a unified diff of the user's file; ``""`` where there is none.
    classes
        Name and class of every module of the treated network, as `Report.classes` has those of the given one.
    """

    title: str
    verdict: CureVerdict
    headline: str
    checkup: Report
    remedies: tuple[Prescription, ...] = ()
    proof: Evidence | None = None
    curves: Curves | None = None
    budgets: Budgets = field(default_factory=Budgets)
    race: Race | None = None
    failed: tuple[FailedTrial, ...] = ()
    effort: Effort = field(default_factory=Effort)
    aborted: str = ""
    source: str = ""
    diff: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["cure"] = "cure"
    schema: int = CURE_SCHEMA

    def __post_init__(self) -> None:
        if self.verdict not in _VERDICTS:
            raise GraddoctorError(f"a cure's verdict is one of {', '.join(_VERDICTS)}, got {self.verdict!r}")

    def report(self) -> CureReport:
        """Return itself."""
        return self


AnyReport = Report | CureReport | PredictionReport | LabReport | Explanation
"""What every face shows."""
