"""RECURRENT_VANISHING and RECURRENT_EXPLODING: what happens to the gradient from time step to time step.

A short memory on a task that needs no long one is sound, so that these too only suspect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import median_filter

from graddoctor.diagnose.conditions.vanishing import DECADES
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import TemporalReading
from graddoctor.terms import Cause, Condition

CLIFF = 100.0
"""Gradient norms have cliffs where one in a hundred is so many times their median (Pascanu et al. 2013)."""

_CLIFFS, _FEWEST = 0.99, 32
_ALL = 45.0  # decades that float32 holds below one, its subnormal numbers among them
_RECURRENT = frozenset({"rnn_tanh", "rnn_relu", "lstm", "gru", "loop"})

Seen = tuple[Probe, TemporalReading]


def recurrent_vanishing(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect a gradient of which less than a thousandth comes back from the last time step to the first."""
    found = [(look, r) for look, r in _readings(seen) if kept(r) <= -DECADES and not grows(r)]
    if not found:
        return ()
    look, worst = min(found, key=lambda one: (one[0].step != 0, kept(one[1]) / one[1].steps))
    sentence = f"Over {worst.steps} time steps {worst.name} loses {-kept(worst):.1f} decades of gradient"
    if (horizon := _horizon(worst)) is not None:
        sentence += f": a thousandth is left after {horizon}"
    return (_suspicion(Condition.RECURRENT_VANISHING, look, worst, found, f"{sentence}."),)


def recurrent_exploding(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect a gradient that grows a thousandfold on its way back in time, or whose norms have cliffs."""
    readings = _readings(seen)
    found = [(look, r) for look, r in readings if grows(r)]
    if found:
        look, worst = max(found, key=lambda one: (one[0].step == 0, kept(one[1]) / one[1].steps))
        sentence = f"Over {worst.steps} time steps {worst.name} multiplies the gradient by 10^{kept(worst):.1f}."
        suspicion = _suspicion(Condition.RECURRENT_EXPLODING, look, worst, found, sentence)
        return (replace(suspicion, causes=(Cause.INITIALIZATION,) if suspicion.at_start else ()),)
    steep = cliffs(seen)
    if not readings or not steep >= CLIFF:
        return ()
    look, first = readings[0]
    sentence = f"One step in a hundred has a gradient of {steep:.0f} times the usual norm or more."
    return (_suspicion(Condition.RECURRENT_EXPLODING, look, first, readings, sentence, at_start=False),)


def kept(reading: TemporalReading) -> float:
    """Decades from the last time step to the first (< 0: lost), by the better of the ways: state, or memory of an LSTM.

    Where the gradient becomes exactly zero on the way, all that a number can hold is lost.
    """
    return max(_hidden(reading), _decades(reading.cell_lag_gradient) if reading.cell_lag_gradient else -math.inf)


def _hidden(reading: TemporalReading) -> float:
    """By the state; the reading follows it beyond what a float holds."""
    if reading.cut is None:
        return reading.decades
    return min(-_ALL, reading.decades) if reading.lag_gradient[reading.cut] == 0 else 0.0


def _decades(way: Sequence[float]) -> float:
    first, last = way[0], way[-1]
    if not (first > 0 and math.isfinite(first) and math.isfinite(last)):
        return 0.0
    if last > 0:
        return math.log10(last / first)
    return min(-_ALL, math.log10(next(norm for norm in reversed(way) if norm > 0) / first))


def grows(reading: TemporalReading) -> bool:
    """Whether a gradient grows a thousandfold over the sequence, or out of what the format can hold."""
    return kept(reading) >= DECADES or not all(math.isfinite(norm) for norm in reading.lag_gradient)


def cliffs(seen: Observation) -> float:
    """How many times the usual norm the gradient's is at one step in a hundred; ``nan`` for too short a run.

    Usual is the median of the steps around: a run that converges has ever smaller gradients, and no cliffs.
    """
    norms = seen.raw_norms[np.isfinite(seen.raw_norms)]
    if len(norms) < _FEWEST:
        return math.nan
    usual = median_filter(norms, size=_FEWEST + 1, mode="reflect")
    known = usual > 0
    return float(np.quantile(norms[known] / usual[known], _CLIFFS)) if known.any() else math.nan


def _readings(seen: Observation) -> list[Seen]:
    """Readings of states at the moments at which they count; light ones at inputs are no recurrence."""
    return [(look, r) for look in seen.moments for r in look.temporal if r.kind in _RECURRENT]


def _horizon(reading: TemporalReading) -> int | None:
    """Steps after which a thousandth is left, where it is the state that hands on the most."""
    return reading.horizon_3 if kept(reading) == _hidden(reading) else None


def _suspicion(
    condition: Condition,
    look: Probe,
    worst: TemporalReading,
    found: list[Seen],
    sentence: str,
    *,
    at_start: bool | None = None,
) -> Suspicion:
    numbers = {
        "decades_over_time": kept(worst),
        "decades_per_time_step": kept(worst) / max(worst.steps - 1, 1),
        "time_steps": float(worst.steps),
        "step": float(look.step),
    }
    if (horizon := _horizon(worst)) is not None:
        numbers["horizon_3_decades_steps"] = float(horizon)
    modules = dict.fromkeys(name for _, reading in ((look, worst), *found) for name in reading.modules)
    start = any(seen.step == 0 for seen, _ in found) if at_start is None else at_start
    return Suspicion(condition, tuple(modules), numbers, decades=abs(kept(worst)), at_start=start, sentence=sentence)
