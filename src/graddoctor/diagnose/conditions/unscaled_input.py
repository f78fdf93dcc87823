"""UNSCALED_INPUT: what goes in, or what is compared with, is out of scale."""

from __future__ import annotations

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.readings import InputReading
from graddoctor.terms import Condition

LARGE, SMALL = 20.0, 0.02
"""Inputs are ordinary while none is larger than this in magnitude, nor all of them smaller than that."""

OFFSET = 10.0
TARGET_SPREAD = 10.0


def unscaled_input(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect inputs far from unit scale or far from zero, and targets that spread widely."""
    odd = [(reading, why) for reading in seen.start.inputs if (why := oddity(reading))]
    if not odd:
        return ()
    reading, why = odd[0]
    first = next((p.module for p in seen.start.parameters if p.gradient is not None and len(p.shape) > 1), "")
    numbers = {"absmax": reading.absmax, "std": reading.std, "mean": reading.mean}
    sentence = f"The {reading.role} {reading.name} {why}."
    return (Suspicion(Condition.UNSCALED_INPUT, (first,) if first else (), numbers, at_start=True, sentence=sentence),)


def oddity(reading: InputReading) -> str:
    """Say what is out of scale about a tensor; an empty string where nothing is."""
    if "float" not in reading.dtype:
        return ""
    offset = abs(reading.mean) / reading.std if reading.std > 0 else 0.0
    target = reading.role == "target"
    signs = (
        (target and reading.std > TARGET_SPREAD, f"spreads by {reading.std:.3g}"),
        (offset > OFFSET, f"lies {offset:.0f} standard deviations from zero"),
        (not target and reading.absmax > LARGE, f"reaches {reading.absmax:.3g}"),
        (not target and reading.absmax < SMALL, f"stays within {reading.absmax:.3g} of zero"),
    )
    return next((words for applies, words in signs if applies), "")
