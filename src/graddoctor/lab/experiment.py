"""An experiment: a claim, where it comes from, what is run for it, and the questions whose answers are its verdict."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from graddoctor.lab.table import Arm, Measured, Numbers, Table
from graddoctor.show.lab import LabVerdict

__all__ = ["Experiment", "LabVerdict", "Picture", "Question", "cross"]


@dataclass(frozen=True)
class Question:
    """One assertion of a claim, as a number a seed that must lie beyond a bound.

    It holds where the 95 % interval of the mean lies beyond the bound, fails where all of it lies on the other side,
    and is open where the bound is within.

    Attributes
    ----------
    says
        The assertion, as a sentence that is true where it holds.
    effect
        ``(table) -> `` one number a seed.
    above, below
        The bound; one of the two. It is an effect that matters, not zero.
    unit
        What the number is counted in.
    control
        It is no part of the claim, but what must hold for the experiment to say anything: that the patient is sick.
    """

    says: str
    effect: Callable[[Table], Numbers]
    above: float | None = None
    below: float | None = None
    unit: str = ""
    control: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn: a measured value, its mean over the seeds and how far they reach.

    Attributes
    ----------
    value
        What was measured; a curve is drawn along its places.
    x
        The part of the arms on the x axis; empty for a curve.
    by, panel
        Parts of the arms that colours and panels stand for.
    y_title, x_title
        Titles of the axes, with units.
    kind
        ``"lines"`` or ``"bars"``.
    log_x, log_y
        Axes in decades.
    where
        Arms that are drawn.
    names
        Words for settings of the arms: ``{"clip": {None: "no clipping"}}``.
    expected
        A measured value that theory gives, drawn as a dashed line.
    first, every
        Where a curve begins on the x axis, and how far apart its places are.
    """

    value: str
    y_title: str
    x: str = ""
    x_title: str = ""
    by: str = ""
    panel: str = ""
    kind: Literal["lines", "bars"] = "lines"
    log_x: bool = False
    log_y: bool = False
    where: Arm = field(default_factory=dict)
    names: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    expected: str = ""
    first: float = 0.0
    every: float = 1.0


@dataclass(frozen=True)
class Experiment:
    """A claim that is put to the test.

    Attributes
    ----------
    name, title
        What the command line calls it, and a headline of a few words.
    claim
        The claim, as it is told.
    source
        Who makes it, and where: paper, with figure or table.
    expected
        What the source reports, in numbers.
    scaled
        How this differs from the source: what must carry over (a sign, an order, an exponent), and what need not.
    lesson
        What to take home from the outcome.
    measure
        ``(seed, **arm) -> `` what one run gives.
    arms, quick
        What is run, and what of it in a quick look; each is run with every seed.
    questions
        What the verdict rests on.
    pictures
        What is drawn.
    verdict
        The outcome that the authors of graddoctor found; another one is worth a look.
    seeds, quick_seeds
        How often each arm is drawn.
    """

    name: str
    title: str
    claim: str
    source: str
    expected: str
    scaled: str
    lesson: str
    measure: Callable[..., Measured]
    arms: tuple[Arm, ...]
    quick: tuple[Arm, ...]
    questions: tuple[Question, ...]
    pictures: tuple[Picture, ...]
    verdict: LabVerdict
    seeds: int = 5
    quick_seeds: int = 3


def cross(**parts: Sequence[Any]) -> tuple[Arm, ...]:
    """Cross settings with one another.

    Examples
    --------
    >>> cross(depth=(5, 10), activation=("tanh",))
    ({'depth': 5, 'activation': 'tanh'}, {'depth': 10, 'activation': 'tanh'})
    """
    return tuple(dict(zip(parts, settings, strict=True)) for settings in itertools.product(*parts.values()))
