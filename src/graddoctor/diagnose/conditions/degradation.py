"""DEGRADATION: many equal blocks in a row, nothing that leads past them, and a loss that stays high.

Whether it is depth that does harm is decided by an experiment: the same training with some of the blocks left out.
"""

from __future__ import annotations

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Condition

LEFT = 0.12
"""A run that leaves less than this to gain is not worse than a shallower one could be."""


def degradation(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect the depth of a network without skip connections that leaves much to gain."""
    if not seen.deep_blocks or 1 - seen.progress < LEFT:
        return ()
    alike = seen.start.budget.signal.relative[-1:] if seen.start.budget else ()
    numbers = {"equal_blocks": float(len(seen.deep_blocks)), "progress": seen.progress}
    sentence = f"{len(seen.deep_blocks)} equal blocks stand in a row and nothing leads past them"
    if alike and alike[0] < 0:
        numbers["spread_of_samples_decades"] = alike[0]
        sentence += f"; behind them samples differ by {10 ** alike[0]:.2g} of their size"
    return (Suspicion(Condition.DEGRADATION, seen.deep_blocks, numbers, at_start=True, sentence=f"{sentence}."),)
