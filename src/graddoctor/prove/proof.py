"""A proof: paired outcomes of the treated and the given recipe on fresh seeds, an interval, and a plain verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from graddoctor.prove.task import Result


@dataclass(frozen=True)
class Pair:
    """The recipe as given and as treated, under one seed. ``difference`` is after minus before; above 0 is better."""

    seed: int
    before: Result
    after: Result
    difference: float


@dataclass(frozen=True)
class Proof:
    """What fresh seeds say.

    Attributes
    ----------
    pairs
        One a seed, in their order.
    measure
        What was compared: the recipe's metric, or the progress of its training loss.
    verdict
        Better where all pairs say so beyond the stated error.
    mean, low, high
        Mean difference and its paired 95 % interval (Student's t over distinct outcomes).
    error
        Chance of such a result where there is no difference: exact sign-flip test, one-sided.
    distinct
        Number of pairs that really differ: seeds that drew the same count once.
    cost
        Seconds per step, after over before.
    parameters_before, parameters_after
        Trainable numbers.
    """

    pairs: tuple[Pair, ...]
    measure: Literal["metric", "progress"]
    verdict: Literal["better", "no difference shown", "worse"]
    mean: float
    low: float
    high: float
    error: float
    distinct: int
    cost: float = math.nan
    parameters_before: int = 0
    parameters_after: int = 0
    planned: int = 5
