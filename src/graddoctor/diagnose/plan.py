"""Which causes are suspected, in which order they are put to an experiment, and on what facts.

The order: first undo what was added to an ordinary training (low precision, cut graphs, clipping, schedule, decay,
epsilon), then what goes in and comes out, then momentum and batching. Then, where the start is sick, structure before
rate, and otherwise rate before structure. Each step needs a fact that speaks for it; facts cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graddoctor.diagnose.conditions.exploding import signal_growth
from graddoctor.diagnose.conditions.poor_initialization import IDENTICAL
from graddoctor.diagnose.conditions.saturation import inner
from graddoctor.diagnose.conditions.unscaled_input import oddity
from graddoctor.diagnose.conditions.vanishing import DECADES, lost
from graddoctor.diagnose.observation import Observation, worst
from graddoctor.diagnose.recurrent_steps import recurrent_steps, state_suspicions
from graddoctor.diagnose.step import Step
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.remedies.activation import bare_output, exchanged, sigmoid_output
from graddoctor.remedies.clipping import no_clipping
from graddoctor.remedies.data import shuffled, standardised_inputs, standardised_targets
from graddoctor.remedies.decay import no_weight_decay
from graddoctor.remedies.depth import fewer_layers
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import HARSH, RECTIFIED, SMOOTH_SATURATING
from graddoctor.remedies.graph import attached, detaches, unfrozen, unhooked
from graddoctor.remedies.initialization import reinitialised
from graddoctor.remedies.norm_places import loud_norms, ordinary_norms
from graddoctor.remedies.optimizer import every_parameter, ordinary_epsilon, ordinary_momentum
from graddoctor.remedies.penalty import no_penalty
from graddoctor.remedies.precision import float32
from graddoctor.remedies.schedule import constant_rate
from graddoctor.terms import Condition

HIGH_MOMENTUM = 0.97
OUTPUT_GAP = 0.1
CLIPPED = 0.5
"""A clip that takes more than half of the gradient at the median step is put to the test."""

DECAYED = 0.1
"""So does a decay that, over the run, would shrink an unmoved weight by a tenth."""

LOUD_EPSILON = 1e-6
LOW_SCHEDULE, HIGH_SCHEDULE = 0.2, 3.0
START_LOSS = 25.0
ALMOST_ALL_DEAD, ALMOST_ALL_SATURATED = 0.95, 0.9
_PER_SWAP = 2  # an activation alone, and with the start that it asks for
ORDINARY_DEVIATION = 0.7
"""Weights within a factor of five of the scale that their activation asks for are of ordinary scale."""


def plan(seen: Observation, suspicions: tuple[Suspicion, ...]) -> Iterator[Step | None]:
    """Yield suspected causes in the order in which they are tried; ``None`` stands for the learning rate."""
    yield from _added(seen)
    if drowned := loud_norms(seen.outcome.model):
        yield Step(ordinary_norms(drowned))
    yield from _inputs(seen)
    if seen.yardstick.output_gap > OUTPUT_GAP:
        yield Step(bare_output(), structural=True)
        yield Step(sigmoid_output(), structural=True)
    if any(max(g.momentum, g.beta1) > HIGH_MOMENTUM for g in seen.groups):
        yield Step(ordinary_momentum())
    if seen.ordered:
        yield Step(shuffled())
    sick = sick_start(seen)
    structure = _structure(seen, suspicions, sick=sick)
    if state_suspicions(suspicions):
        yield from recurrent_steps(seen, suspicions)
        yield from structure
    elif sick:
        yield from structure
        yield None
    else:
        yield None
        yield from structure
    frozen = tuple(dict.fromkeys(p.module for p in seen.start.parameters if not p.trainable))
    if frozen:
        yield Step(replace(unfrozen(), modules=frozen))
    if not seen.deep_blocks:  # blocks that something leads past are the last to be too many
        yield from _fewer(seen)


def _added(seen: Observation) -> Iterator[Step]:
    if seen.low_precision:
        yield Step(float32())
    if any(p.trainable and p.gradient is None for p in seen.start.parameters) or _detached(seen):
        yield Step(attached())
    if seen.missing:
        yield Step(every_parameter())
    if seen.recipe.clip and _clipped_share(seen) > CLIPPED:
        yield Step(no_clipping())
    if seen.recipe.scheduler and _odd_schedule(seen):
        yield Step(constant_rate())
    if any(_decay(seen, g.lr, g.momentum, g.weight_decay) > DECAYED for g in seen.groups):
        yield Step(no_weight_decay())
    if seen.yardstick.penalised:
        yield Step(no_penalty())
    if seen.survey is not None and seen.survey.hooks:
        yield Step(unhooked())
    if any(g.eps > LOUD_EPSILON for g in seen.groups):
        yield Step(ordinary_epsilon())


def _inputs(seen: Observation) -> Iterator[Step]:
    odd = {reading.role for reading in seen.start.inputs if oddity(reading)}
    if "input" in odd:
        yield Step(standardised_inputs(), structural=True)
    if "target" in odd:
        yield Step(standardised_targets(), structural=True)


def _structure(seen: Observation, suspicions: tuple[Suspicion, ...], *, sick: bool) -> Iterator[Step]:
    """Activation, initialization and depth.

    An activation that is harsh at any scale goes first where the weights are not. Where many equal blocks stand in a
    row, depth goes before rectifiers and smooth activations, which almost any depth makes suspect; and before all else
    where the start is in order, since then no other start can be what is missing.
    """
    survey = seen.survey
    hidden = frozenset(survey.hidden) if survey else frozenset()
    harsh = hidden & HARSH
    init = Step(reinitialised(), structural=True)
    found = {s.condition for s in suspicions}
    swaps: list[Step] = []
    if survey is not None:
        troubled = found & {Condition.DEAD_UNITS, Condition.SATURATION, Condition.VANISHING, Condition.PLATEAU}
        for kinds in (harsh, hidden & RECTIFIED, hidden & SMOOTH_SATURATING):
            if kinds and (kinds is harsh or troubled):
                swap = exchanged(kinds, survey)
                swaps += [Step(swap, structural=True), Step(swap.then(reinitialised()), structural=True)]
    ordinary = _off_scale(seen) < ORDINARY_DEVIATION and not _identical(seen)
    leading = _PER_SWAP if harsh else 0
    first = leading if ordinary else 0
    if seen.deep_blocks and not sick:
        yield from _fewer(seen)
    yield from swaps[:first]
    yield init
    yield from swaps[first:leading]
    if seen.deep_blocks and sick:
        yield from _fewer(seen)
    yield from swaps[leading:]


def _fewer(seen: Observation) -> Iterator[Step]:
    return (Step(remedy) for remedy in fewer_layers(Facts(seen.recipe)))


def sick_start(seen: Observation) -> bool:
    """Whether something is wrong before the first step."""
    look = seen.start
    budget = look.budget
    signal = budget.signal if budget else None
    collapsed = signal is not None and (
        (signal.total is not None and signal.total < -DECADES) or any(level < -2 * DECADES for level in signal.relative)
    )
    return (
        (budget is not None and bool(budget.cut))
        or abs(lost(look)) > DECADES
        or signal_growth(look) > DECADES
        or collapsed
        or worst(inner(look), lambda a: a.dead) >= ALMOST_ALL_DEAD
        or worst(inner(look), lambda a: a.saturated) >= ALMOST_ALL_SATURATED
        or any(a.saturated >= ALMOST_ALL_SATURATED for a in look.attention)
        or _identical(seen)
        or not look.loss <= START_LOSS * abs(seen.yardstick.baseline)
    )


def _detached(seen: Observation) -> bool:
    try:
        return detaches(seen.recipe)
    except Exception:  # noqa: BLE001 - a loss that cannot be computed with nothing detached is not tried so
        return False


def _identical(seen: Observation) -> bool:
    return any(p.identical >= IDENTICAL and p.trainable for p in seen.start.parameters)


def _off_scale(seen: Observation) -> float:
    return max(seen.deviations.values(), default=0.0)


def _clipped_share(seen: Observation) -> float:
    raw, clipped = seen.raw_norms, seen.clipped_norms
    known = np.isfinite(raw) & (raw > 0)
    return float(1 - np.median(clipped[known] / raw[known])) if known.any() else 0.0


def _odd_schedule(seen: Observation) -> bool:
    """Whether the schedule spends the run far below its own peak, or lifts the rate far above the one given."""
    rates = seen.rates
    if not len(rates) or not rates.max() > 0:
        return True
    base = max((g.lr for g in seen.groups), default=math.nan)
    return float(rates.mean() / rates.max()) < LOW_SCHEDULE or float(rates.max()) > HIGH_SCHEDULE * base


def _decay(seen: Observation, lr: float, momentum: float, decay: float) -> float:
    return decay * lr / max(1 - momentum, 1e-3) * seen.outcome.total_steps
