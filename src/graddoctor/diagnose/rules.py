"""The default set of rules: a plain tuple; add to it by concatenation."""

from __future__ import annotations

from graddoctor.diagnose.conditions.dead_units import dead_units
from graddoctor.diagnose.conditions.degradation import degradation
from graddoctor.diagnose.conditions.disconnected import disconnected
from graddoctor.diagnose.conditions.exploding import exploding
from graddoctor.diagnose.conditions.plateau import oscillation, plateau
from graddoctor.diagnose.conditions.poor_initialization import poor_initialization
from graddoctor.diagnose.conditions.recurrent import recurrent_exploding, recurrent_vanishing
from graddoctor.diagnose.conditions.saturation import saturation
from graddoctor.diagnose.conditions.underflow import underflow
from graddoctor.diagnose.conditions.unscaled_input import unscaled_input
from graddoctor.diagnose.conditions.vanishing import vanishing
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Rule, Suspicion

RULES: tuple[Rule, ...] = (
    disconnected,
    underflow,
    unscaled_input,
    recurrent_exploding,
    recurrent_vanishing,
    exploding,
    vanishing,
    dead_units,
    saturation,
    poor_initialization,
    degradation,
    plateau,
    oscillation,
)


def suspect(seen: Observation, rules: tuple[Rule, ...] = RULES) -> tuple[Suspicion, ...]:
    """Apply every rule; the order of the rules is the order of the suspicions."""
    return tuple(suspicion for rule in rules for suspicion in rule(seen))
