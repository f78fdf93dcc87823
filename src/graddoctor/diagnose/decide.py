"""Interventions decide: put the suspected causes to experiments, and make a finding of the one that is confirmed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeGuard

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.plan import plan
from graddoctor.diagnose.recurrent_steps import starts_wild
from graddoctor.diagnose.step import Step
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.prove.experiment import NOTICEABLE, Arm, Bench
from graddoctor.prove.sweep import suiting, sweep
from graddoctor.remedies.optimizer import equal_rates, learning_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause, Trial

LEARNS = 0.1
"""A run that removes less than this share of the constant predictor's loss does not learn."""

SOUND = 0.12
"""A run that leaves less than this to gain is sound: no experiment could gain more than noise does."""

FULL_GAIN = 0.2
METRIC_GAIN = 0.1
WORTH = 0.05
"""By so much an accuracy, or another metric that is a share of one, must get better where a run learns as it is."""

NEAR_BEST = 0.6
RATE_ALONE = 0.6
"""A structure that needs another training is not credited where that alone gives this share of its gain."""

_TRAINING = frozenset({Cause.LEARNING_RATE, Cause.OPTIMIZER, Cause.CLIPPING})
_RATES = (0.1, 10.0)
_APART = 30.0  # groups whose rates differ by more than this are put to the test


@dataclass(frozen=True)
class Verdict:
    """What the experiments say: the arm that is credited, all arms in the order in which they ran."""

    arm: Arm | None
    arms: tuple[Arm, ...] = ()
    aborted: str = ""


def decide(seen: Observation, suspicions: tuple[Suspicion, ...], bench: Bench) -> Verdict:
    """Try the suspected causes in order; stop at the first that gives back half of what is missing."""
    tried: list[Arm] = []
    wild = starts_wild(suspicions)
    for step in plan(seen, suspicions):
        if bench.exhausted:
            break
        for arm in _arms(step, seen, bench):
            tried.append(arm.without_network())
            if _settles(step, arm, bench):
                return Verdict(_credited(arm, bench, wild=wild), tuple(bench.arms.values()), bench.aborted)
            if bench.exhausted:
                break
    return Verdict(_best_of(tried, bench, wild=wild), tuple(bench.arms.values()), bench.aborted)


def _settles(step: Step | None, arm: Arm, bench: Bench) -> bool:
    """Whether no further experiment is needed.

    What undoes something specific need not give back half: a clear gain at full length is its own. Batches in order
    deceive the training loss, which follows them; there the metric speaks.
    """
    if arm.cause is Cause.BATCHING and arm.metric_gain >= METRIC_GAIN:
        return True
    clear = step is not None and step.specific and arm.share == 1 and arm.gain >= FULL_GAIN
    return (clear or bench.enough(arm)) and _agrees(arm, bench)


def _agrees(arm: Arm, bench: Bench) -> bool:
    """Whether the metric says so too; where a short run says no, a whole one is asked."""
    if not _better(arm, bench) and arm.short and not bench.exhausted:
        arm = bench.run(arm.remedy, 1.0, whole=True)
    return _better(arm, bench)


def _better(arm: Arm, bench: Bench) -> bool:
    """Whether the metric is not worse, and where the given run learns, and it is a share of one, is worth the change.

    A metric of 0.97 says of a loss that could still be halved that nothing is wrong.
    """
    shares = _is_share(bench.plain.outcome.evaluation) and _is_share(arm.evaluation)
    worth = bench.plain.progress < LEARNS or not shares or arm.metric_gain >= WORTH
    return worth and not arm.contradicted


def nothing_to_gain(progress: float, metric: float | None) -> bool:
    """Whether a run is sound without any experiment: by its loss, or since it learns and its metric is all but one."""
    return 1 - progress < SOUND or (progress >= LEARNS and _is_share(metric) and metric > 1 - WORTH)


def _is_share(metric: float | None) -> TypeGuard[float]:
    return metric is not None and 0 <= metric <= 1


def _arms(step: Step | None, seen: Observation, bench: Bench) -> Iterable[Arm]:
    """The experiments that one suspected cause is put to."""
    if step is None:
        rates = [group.lr for group in seen.groups if group.lr > 0]
        if rates and max(rates) / min(rates) > _APART:
            slow = tuple(m for g in seen.groups if g.lr < max(rates) for m in g.modules)
            yield bench.run(replace(equal_rates(max(rates) / min(rates)), modules=slow))
        for rate in _rates(bench):
            yield from _at_length(learning_rate(rate), bench)
        return
    if step.trainers:
        yield from (bench.run(step.remedy.then(trainer), 1.0) for trainer in step.trainers)
        return
    yield from _at_length(step.remedy, bench)
    if step.structural and not bench.run(step.remedy).failed and not bench.exhausted:
        factor = _swept(step.remedy, bench)
        if factor is not None:
            yield from _at_length(step.remedy.then(learning_rate(factor)), bench)


def _at_length(remedy: Remedy, bench: Bench) -> Iterable[Arm]:
    """Run a change at half length, and where that is unclear, since it may only be slow, at full length."""
    arm = bench.run(remedy)
    yield arm
    if arm.lead >= NOTICEABLE and not bench.enough(arm) and not bench.exhausted:
        yield bench.run(remedy, 1.0)


def _rates(bench: Bench) -> tuple[float, ...]:
    """The rate that a sweep asks for, then a tenth and ten times the given one."""
    factor = _swept(None, bench)
    return _RATES if factor is None else (factor, *(r for r in _RATES if not 1 / 3 < r / factor < 3))  # noqa: PLR2004


def _swept(remedy: Remedy | None, bench: Bench) -> float | None:
    """Factor of the given rate at which a (treated) recipe trains, where that is not the given rate itself."""
    recipe = remedy(bench.recipe) if remedy else bench.recipe
    around = remedy.around if remedy else None
    bench.announce("a sweep of the learning rate")
    try:
        found = sweep(recipe, bench.plain.yardstick, around=around, deadline=bench.deadline)
    except Exception:  # noqa: BLE001 - a network that a sweep breaks loses the sweep, not the check
        return None
    bench.steps_left -= len(found.losses)
    return suiting(found.best)


def _credited(arm: Arm, bench: Bench, *, wild: bool) -> Arm:
    """A change that was made together with another training is credited only with what it adds over that alone.

    Not where a state grows from the first step on, and what carries it was changed: see `recurrent_steps`.
    """
    parts = arm.remedy.each
    training = [part for part in parts if part.causes[0] in _TRAINING]
    if not training or parts[0].causes[0] in _TRAINING or (wild and arm.share == 1):
        return arm
    alone = bench.run(reduce(Remedy.then, training), arm.share)
    if alone.contradicted or alone.gain < RATE_ALONE * arm.gain:
        return arm
    if alone.short:
        return alone
    whole = bench.run(arm.remedy, arm.share, whole=True)  # it was stopped once it helped: how far does it get?
    return alone if alone.gain >= RATE_ALONE * whole.gain else whole


def _best_of(tried: list[Arm], bench: Bench, *, wild: bool) -> Arm | None:
    """Where nothing gives back half: the first in order that comes near the best, confirmed at full length."""
    good = [arm for arm in tried if not arm.contradicted and not arm.failed]
    best = max((arm.gain for arm in good), default=0.0)
    if best < SOUND or bench.late:
        return None
    chosen = next(arm for arm in good if arm.gain >= NEAR_BEST * best)
    full = bench.run(chosen.remedy, 1.0)
    return _credited(full, bench, wild=wild) if full.gain >= FULL_GAIN and _agrees(full, bench) else None


def trial_of(arm: Arm, *, helped: bool) -> Trial:
    """Tell an experiment as a report shows it."""
    steps = arm.outcome.steps if arm.outcome else 0
    reservation = f"; could not be run: {arm.failed}" if arm.failed else ""
    if arm.gain >= NOTICEABLE and arm.contradicted:
        reservation = "; the loss fell and the metric did not agree"
    elif arm.gain >= NOTICEABLE and not helped and _is_share(arm.evaluation) and arm.metric_gain < WORTH:
        reservation = f"; the metric gained only {arm.metric_gain:.3f}"
    sentence = f"{arm.remedy.name}: progress {arm.progress:.2f} ({arm.gain:+.2f}) after {steps} steps"
    return Trial(
        arm.remedy.name,
        arm.cause,
        steps,
        arm.progress,
        arm.gain,
        arm.evaluation,
        helped=helped,
        sentence=sentence + reservation,
    )
