"""DEGRADATION: many equal blocks in a row, nothing that leads past them, and a loss that stays high.

Whether it is depth that does harm is decided by an experiment: the same training with some of the blocks left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.alike import AlikeReading
from graddoctor.terms import Condition

LEFT = 0.12
"""A run that leaves less than this to gain is not worse than a shallower one could be."""


def degradation(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect the depth of a network without skip connections that leaves much to gain."""
    if not seen.deep_blocks or 1 - seen.progress < LEFT:
        return ()
    numbers = {"equal_blocks": float(len(seen.deep_blocks)), "progress": seen.progress}
    sentences = [f"{len(seen.deep_blocks)} equal blocks stand in a row and nothing leads past them."]
    for said, figures in _signs(seen.alike):
        numbers |= figures
        sentences.append(said)
    return (Suspicion(Condition.DEGRADATION, seen.deep_blocks, numbers, at_start=True, sentence=" ".join(sentences)),)


def _signs(readings: Sequence[AlikeReading]) -> Iterator[tuple[str, dict[str, float]]]:
    """What became of the samples, and of the gradients that neighbours share, over the blocks."""
    if len(readings) < 2:  # noqa: PLR2004 - a first and a last block
        return
    first, last = readings[0], readings[-1]
    if math.isfinite(last.similarity):
        said = (
            f"Two samples have a cosine of {first.similarity:.2f} at the first and {last.similarity:.2f} at the last."
        )
        yield said, {"first_similarity": first.similarity, "last_similarity": last.similarity}
    if math.isfinite(first.shared):
        said = f"Neighbouring inputs share {max(first.shared, 0.0):.0%} of their gradient at the first."
        yield said, {"shared_gradient": first.shared}
