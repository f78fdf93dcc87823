"""EXPLODING and NON_FINITE: gradient or signal grows a thousandfold over depth, or numbers leave the format."""

from __future__ import annotations

import math

import numpy as np

from graddoctor.diagnose.conditions.vanishing import DECADES, hidden_rows, lost, modules_of, per_element
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.probe import Probe
from graddoctor.remedies.functions import MATRIX
from graddoctor.terms import Cause, Condition

_NORM_JUMP = 1e3


def exploding(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect growth over depth by three decades, a gradient norm a thousand times its usual one, or NaN."""
    found: list[Suspicion] = []
    bad = seen.outcome.first_nonfinite
    if bad is not None:
        found.append(
            Suspicion(
                Condition.NON_FINITE,
                _first_bad(seen),
                {"first_nonfinite_step": float(bad)},
                at_start=bad == 0,
                sentence=f"The loss is no longer a number from step {bad} on.",
                causes=(Cause.INPUT_SCALE,) if any(i.nonfinite for i in seen.start.inputs) else (),
            )
        )
    growth = [(look, max(-lost(look), signal_growth(look))) for look in seen.moments]
    look, decades = max(growth, key=lambda pair: pair[1])
    jump = _norm_jump(seen)
    if decades >= DECADES or jump >= math.log10(_NORM_JUMP) or bad is not None:
        rows = sorted(hidden_rows(look.budget), key=lambda row: -per_element(row)) if look.budget else []
        found.append(
            Suspicion(
                Condition.EXPLODING,
                modules_of(rows),
                {"decades_gained": decades, "gradient_norm_jump_decades": jump, "step": float(look.step)},
                decades=max(decades, jump) if bad is None else math.inf,
                at_start=decades >= DECADES and look.step == 0,
                sentence=_sentence(decades, jump),
            )
        )
    return tuple(found)


def signal_growth(look: Probe) -> float:
    """Decades by which the values that nonlinearities are given grow over depth, largest over first.

    Logits of an attention are products of two signals, and no measure of either.
    """
    sizes = [a.input_rms for a in look.activations if not (a.kind == "softmax" and len(a.shape) > MATRIX)]
    if not sizes or not sizes[0] > 0:
        return 0.0
    largest = max(sizes)
    return math.log10(largest / sizes[0]) if math.isfinite(largest) else math.inf


def _norm_jump(seen: Observation) -> float:
    """Decades between the largest gradient norm and the median of the first eighth of the run."""
    norms = seen.raw_norms[np.isfinite(seen.raw_norms)]
    if len(norms) < 16:  # noqa: PLR2004 - no usual size can be told from fewer steps
        return 0.0
    usual = float(np.median(norms[: max(8, len(norms) // 8)]))
    known = seen.outcome.losses[~np.isnan(seen.outcome.losses)]
    if not len(known) or known.max() < 2 * max(abs(seen.yardstick.baseline), abs(seen.outcome.losses[0])):
        return 0.0  # the gradient wakes up, as it does where learning begins late: the loss says that nothing explodes
    return math.log10(float(norms.max()) / usual) if usual > 0 else 0.0


def _first_bad(seen: Observation) -> tuple[str, ...]:
    for look in seen.probes:
        bad = [p.module for p in look.parameters if p.gradient_nonfinite]
        bad += [a.module for a in look.activations if a.nonfinite]
        if bad:
            return tuple(dict.fromkeys(bad))
    return ()


def _sentence(decades: float, jump: float) -> str:
    if decades >= DECADES:
        return f"Signal or gradient grows by {decades:.1f} decades over the depth of the network."
    if jump >= math.log10(_NORM_JUMP):
        return f"The gradient's norm rises to {10**jump:.0f} times what is usual for this run."
    return "The numbers grow until the format cannot hold them."
