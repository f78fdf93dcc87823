"""A step of the plan: one suspected cause, and how it is put to an experiment."""

from __future__ import annotations

from dataclasses import dataclass

from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

_SPECIFIC = frozenset(
    {
        Cause.PRECISION,
        Cause.GRAPH,
        Cause.CLIPPING,
        Cause.SCHEDULE,
        Cause.WEIGHT_DECAY,
        Cause.MOMENTUM,
        Cause.BATCHING,
    }
)


@dataclass(frozen=True)
class Step:
    """One suspected cause, and the change that undoes it.

    Attributes
    ----------
    structural
        Whether other rates may be tried with it.
    trainers
        Ordinary trainings that it is tried under, one after the other and at full length, where the given one would
        hide what it does. It is credited only with what it adds to such a training alone.
    """

    remedy: Remedy
    structural: bool = False
    trainers: tuple[Remedy, ...] = ()

    @property
    def specific(self) -> bool:
        """Whether the change undoes something that was added, and helps hardly anything else."""
        return self.cause in _SPECIFIC

    @property
    def cause(self) -> Cause:
        """What the change undoes."""
        return self.remedy.causes[0]
