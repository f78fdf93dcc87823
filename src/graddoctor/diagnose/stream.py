"""What a stream of readings shows without any experiment: symptoms, told as what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from graddoctor.diagnose.conditions.dead_units import dead_units
from graddoctor.diagnose.conditions.disconnected import disconnected
from graddoctor.diagnose.conditions.exploding import exploding
from graddoctor.diagnose.conditions.plateau import oscillation, plateau
from graddoctor.diagnose.conditions.saturation import saturation
from graddoctor.diagnose.conditions.vanishing import DECADES
from graddoctor.diagnose.findings import unconfirmed
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Rule, Suspicion
from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import ActivationReading, ParameterReading
from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe
from graddoctor.terms import Condition, Finding, Severity
from graddoctor.train import Outcome

RULES: tuple[Rule, ...] = (disconnected, exploding, dead_units, saturation)
LOSS_RULES: tuple[Rule, ...] = (plateau, oscillation)
"""The rules that need no gradient budget, no survey and no baseline; those on losses once there are enough of them."""

TREND = 200
"""Fewer losses than this show no plateau: sound runs begin slowly too."""

FALLING = 0.3
"""A loss that fell by this share of its first value does no visible harm: symptoms beside it are notes."""


def suspect_stream(
    losses: Sequence[float],
    parameters: Sequence[ParameterReading],
    activations: Sequence[ActivationReading],
    rules: tuple[Rule, ...] = RULES,
) -> tuple[Finding, ...]:
    """Tell what the newest readings of a watched training show; nothing of it is confirmed by an experiment.

    Parameters
    ----------
    losses
        One a step, oldest first; may be empty where the loop did not log them.
    parameters, activations
        The newest readings, in forward order.

    Returns
    -------
    tuple of Finding
        Warnings, or notes where the loss falls all the same; most severe first.
    """
    values = np.asarray(losses, dtype=np.float64)
    seen = _observation(values, parameters, activations)
    suspicions = [
        *_over_depth(activations),
        *(s for rule in (*rules, *(LOSS_RULES if len(values) >= TREND else ())) for s in rule(seen)),
    ]
    harmless = _falls(values)
    findings = [
        unconfirmed(s, Severity.NOTE if harmless and s.condition is not Condition.NON_FINITE else Severity.WARNING)
        for s in suspicions
    ]
    return tuple(sorted(findings, key=lambda finding: -finding.severity))


def _observation(
    losses: np.ndarray[tuple[int], np.dtype[np.float64]],
    parameters: Sequence[ParameterReading],
    activations: Sequence[ActivationReading],
) -> Observation:
    """The readings in the form that rules read, with what a stream cannot know left out."""
    last = float(losses[-1]) if len(losses) else 0.0
    look = Probe(
        step=len(losses),
        loss=last if math.isfinite(last) else 0.0,
        budget=None,
        activations=tuple(activations),
        parameters=tuple(parameters),
    )
    nothing = nn.Module()
    recipe = Recipe(model=lambda: nothing, loss=lambda _m, b: b, batches=(), optimizer=_no_optimizer)
    outcome = Outcome(losses, len(losses), max(1, len(losses) // 4), None, 0.0, "complete", nothing)
    baseline = float(np.abs(losses[:1]).sum()) or 1.0
    return Observation(recipe, outcome, (look,), Yardstick(baseline, computed=False), progress=math.nan)


def _no_optimizer(_: nn.Module) -> torch.optim.Optimizer:
    msg = "a stream has no recipe to train"
    raise NotImplementedError(msg)


def _over_depth(activations: Sequence[ActivationReading]) -> tuple[Suspicion, ...]:
    """Suspect a gradient that changes a thousandfold between the last nonlinearity and the first, per element."""
    sizes = [(a, a.gradient / math.sqrt(max(math.prod(a.shape), 1))) for a in activations if a.gradient > 0]
    if len(sizes) < 2:  # noqa: PLR2004 - a change needs a first and a last
        return ()
    decades = math.log10(sizes[0][1] / sizes[-1][1])
    if abs(decades) < DECADES:
        return ()
    condition = Condition.VANISHING if decades < 0 else Condition.EXPLODING
    word = "loses" if decades < 0 else "gains"
    return (
        Suspicion(
            condition,
            tuple(dict.fromkeys(a.module for a, _ in sizes if a.module)),
            {"decades": decades},
            sentence=f"The gradient {word} {abs(decades):.1f} decades from the last nonlinearity to the first.",
        ),
    )


def _falls(losses: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Whether the loss is finite and clearly lower than it began."""
    if len(losses) < 8 or not np.isfinite(losses).all():  # noqa: PLR2004 - fewer show no trend
        return False
    part = max(1, len(losses) // 8)
    first, last = float(losses[:part].mean()), float(losses[-part:].mean())
    return first - last > FALLING * abs(first)
