"""A suspicion: a condition that was seen, where it sits, and the numbers that show it.

Rules suspect; they never decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graddoctor.diagnose.observation import Observation
from graddoctor.terms import Cause, Condition


@dataclass(frozen=True)
class Suspicion:
    """What a rule saw.

    Attributes
    ----------
    modules
        The most to blame first.
    numbers
        Short English names with units, and the figures.
    decades
        How bad it is: decades lost, gained, or not let through; ``nan`` where it is not a matter of more or less.
    at_start
        Whether it was there before the first step.
    sentence
        What was seen, for a reader.
    causes
        What can only be meant, where what was seen leaves no choice; experiments rank all others.
    """

    condition: Condition
    modules: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    decades: float = math.nan
    at_start: bool = False
    sentence: str = ""
    causes: tuple[Cause, ...] = ()


def held_back(share: float) -> float:
    """Decades by which what gets through is less where this share of the units or values lets nothing through."""
    return -math.log10(1 - share) if share < 1 else math.inf


Rule = Callable[[Observation], tuple[Suspicion, ...]]
"""A pure function from what was observed to suspicions; an empty tuple when there is nothing to say."""
