"""A suspicion: a condition that was seen, where it sits, and the numbers that show it.

Rules suspect; they never decide.
"""

from __future__ import annotations

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
    at_start: bool = False
    sentence: str = ""
    causes: tuple[Cause, ...] = ()


Rule = Callable[[Observation], tuple[Suspicion, ...]]
"""A pure function from what was observed to suspicions; an empty tuple when there is nothing to say."""
