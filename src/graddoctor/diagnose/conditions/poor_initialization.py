"""POOR_INITIALIZATION: the start itself is the fault."""

from __future__ import annotations

import math

from graddoctor.diagnose.conditions.exploding import signal_growth
from graddoctor.diagnose.conditions.vanishing import DECADES
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Condition

IDENTICAL = 0.9
ZERO_GRADIENTS = 0.3
LOSS_RATIO = 10.0


def poor_initialization(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect identical units, gradients that are exactly zero, a signal that changes a thousandfold, a huge loss."""
    look = seen.start
    alike = [p.module for p in look.parameters if p.identical >= IDENTICAL and p.trainable]
    zeros = look.low_precision_zeros
    lost = -(look.budget.signal.total or 0.0) if look.budget else 0.0
    change = max(signal_growth(look), lost)
    ratio = look.loss / max(abs(seen.yardstick.baseline), 1e-12)
    reasons = []
    if alike:
        reasons.append("units of a layer start identical, so they stay identical")
    if zeros > ZERO_GRADIENTS:
        reasons.append(f"{zeros:.0%} of the weights' gradients are exactly zero")
    if change >= DECADES:
        reasons.append(f"the signal changes by {change:.1f} decades over depth")
    if not ratio < LOSS_RATIO:
        reasons.append(f"the loss starts at {ratio:.3g} times that of a constant answer")
    if not reasons:
        return ()
    off = sorted(seen.deviations, key=lambda name: -seen.deviations[name])
    sentence = "At the start " + ", and ".join(reasons) + "."
    numbers = {
        "zero_gradient_share": zeros,
        "signal_change_decades": change if math.isfinite(change) else math.nan,
        "loss_over_constant": ratio,
        "identical_layers": float(len(alike)),
    }
    where = tuple(dict.fromkeys([*alike, *off]))
    return (Suspicion(Condition.POOR_INITIALIZATION, where, numbers, at_start=True, sentence=sentence),)
