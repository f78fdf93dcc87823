"""Ordinary trainings of recurrent networks: under others a good cell and a bad one may look alike."""

from __future__ import annotations

from graddoctor.remedies.clipping import clipped
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.optimizer import adam, rate
from graddoctor.remedies.remedy import Remedy

RATES = (1e-2, 3e-3)
"""Rates of Adam at which small recurrent networks are customarily trained, the larger one first."""

MAX_NORM = 1.0
"""The customary clip (Pascanu et al. 2013)."""

_SAME = 0.01


def ordinary_trainings(facts: Facts) -> tuple[Remedy, ...]:
    """Prescribe Adam at customary rates with a clip; where the recipe has an Adam, its own at these rates.

    Source: Pascanu et al. 2013 for the clip, Kingma and Ba 2015.
    """
    clip = clipped(MAX_NORM)
    own = [float(group["lr"]) for group in facts.optimizer.param_groups if group.get("betas") and group["lr"] > 0]
    if not own:
        return tuple(adam(lr).then(clip) for lr in RATES)
    factors = [float(f"{lr / max(own):.2g}") for lr in RATES]
    return tuple(clip if abs(f - 1) < _SAME else rate(facts, f).then(clip) for f in factors)
