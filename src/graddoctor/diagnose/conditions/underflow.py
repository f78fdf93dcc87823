"""UNDERFLOW: gradients or updates fall below what a low-precision format can hold."""

from __future__ import annotations

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Condition

ZEROS = 0.3
UNCHANGED = 0.5


def underflow(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect zeros among gradients, or steps that move nothing, where something is computed in few bits."""
    if not seen.low_precision:
        return ()
    zeros = max(look.low_precision_zeros for look in seen.probes)
    stuck = {
        p.module: p.unchanged
        for look in seen.probes
        for p in look.parameters
        if p.update is not None and p.unchanged > UNCHANGED
    }
    if zeros <= ZEROS and not stuck:
        return ()
    empty = [p.module for p in seen.start.parameters if p.gradient is not None and p.gradient_zeros > ZEROS]
    numbers = {"zero_gradient_share": zeros, "unchanged_share": max(stuck.values(), default=0.0)}
    sentence = f"{zeros:.0%} of the gradients are zero in the format that is computed in."
    if stuck:
        sentence = "More than half of the updates are too small to change the weight that they are added to."
    return (Suspicion(Condition.UNDERFLOW, tuple(dict.fromkeys([*empty, *stuck])), numbers, sentence=sentence),)
