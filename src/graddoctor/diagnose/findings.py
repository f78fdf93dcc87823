"""Findings: one disease each, with its cause, its consequences, and a sentence that a student understands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.prove.experiment import NOTICEABLE, Arm
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial

_EASED = 0.5
_CRITICAL_GAIN = 0.3
_NAMED: dict[Cause, tuple[Condition, ...]] = {
    Cause.INPUT_SCALE: (Condition.UNSCALED_INPUT,),
    Cause.TARGET_SCALE: (Condition.UNSCALED_INPUT,),
    Cause.PRECISION: (Condition.UNDERFLOW, Condition.NON_FINITE),
    Cause.MOMENTUM: (Condition.OSCILLATION, Condition.LEARNING_RATE_TOO_HIGH),
    Cause.BATCHING: (Condition.OSCILLATION, Condition.PLATEAU),
    Cause.GRAPH: (Condition.DISCONNECTED,),
    Cause.CLIPPING: (Condition.PLATEAU, Condition.LEARNING_RATE_TOO_LOW),
    Cause.SCHEDULE: (Condition.PLATEAU, Condition.LEARNING_RATE_TOO_LOW),
    Cause.OPTIMIZER: (Condition.PLATEAU, Condition.LEARNING_RATE_TOO_LOW),
}
"""The name that a cause gives to the disease: the first that was seen, or the last of them."""

_STATES = frozenset({Condition.RECURRENT_EXPLODING, Condition.RECURRENT_VANISHING})
_OF_STATES = frozenset({Cause.RECURRENCE, Cause.GATES})

_ORDER = (
    Condition.RECURRENT_EXPLODING,
    Condition.RECURRENT_VANISHING,
    Condition.NON_FINITE,
    Condition.EXPLODING,
    Condition.VANISHING,
    Condition.DEAD_UNITS,
    Condition.SATURATION,
    Condition.POOR_INITIALIZATION,
    Condition.PLATEAU,
    Condition.OSCILLATION,
)
"""Which condition gives a disease its name where the cause does not: the most harmful first."""


def confirmed(
    arm: Arm,
    suspicions: Sequence[Suspicion],
    left: Sequence[Suspicion],
    trials: Sequence[Trial],
    *,
    missing: float,
    deviations: dict[str, float],
    output: tuple[str, ...] = (),
) -> Finding:
    """Make the finding of an experiment that helped.

    Conditions that were seen and that the treated run no longer shows are its consequences.
    """
    gone = [s for s in suspicions if _fits(s.condition, arm.cause) and not any(_same(s, t) for t in left)]
    condition = _condition(arm, gone, suspicions)
    named = [s for s in suspicions if s.condition is condition]
    consequences = tuple(dict.fromkeys(s.condition for s in gone if s.condition is not condition))
    modules = _modules(arm, [*named, *gone], deviations, output)
    share = max(0.0, min(1.0, arm.gain / missing)) if missing > 0 else math.nan
    first = Blame(arm.cause, modules, share, (arm.remedy.name,), arm.cause.sentence)
    sentences = " ".join(s.sentence for s in (*named, *(s for s in gone if s not in named)) if s.sentence)
    return Finding(
        condition=condition,
        severity=Severity.CRITICAL if arm.gain >= _CRITICAL_GAIN else Severity.WARNING,
        modules=modules,
        causes=(first, *_further(arm, trials, missing)),
        consequences=consequences,
        numbers={**{k: v for s in named for k, v in s.numbers.items()}, "gain": arm.gain},
        summary=_summary(condition, arm),
        detail=sentences,
        trials=tuple(trials),
    )


def unconfirmed(suspicion: Suspicion, severity: Severity) -> Finding:
    """Tell a suspicion as it is: seen, and not put to an experiment or not confirmed by one."""
    return Finding(
        condition=suspicion.condition,
        severity=severity,
        modules=suspicion.modules,
        causes=tuple(Blame(cause, suspicion.modules, sentence=cause.sentence) for cause in suspicion.causes),
        numbers=dict(suspicion.numbers),
        summary=suspicion.condition.sentence,
        detail=suspicion.sentence,
    )


def _further(arm: Arm, trials: Sequence[Trial], missing: float) -> tuple[Blame, ...]:
    """Other causes whose undoing gave something back too, by their share."""
    best: dict[Cause, Trial] = {}
    for trial in trials:
        known = best.get(trial.cause)
        if trial.cause is not arm.cause and trial.gain >= NOTICEABLE and (known is None or trial.gain > known.gain):
            best[trial.cause] = trial
    ranked = sorted(best.values(), key=lambda trial: -trial.gain)
    return tuple(Blame(t.cause, (), min(1.0, t.gain / missing), (t.name,), t.cause.sentence) for t in ranked)


def _fits(condition: Condition, cause: Cause) -> bool:
    """Whether a condition can follow from a cause: a poor start from the start alone, oscillation from the steps.

    Degradation is what an experiment on depth shows, and what happens in time follows from what carries the state.
    """
    if condition is Condition.POOR_INITIALIZATION:
        return cause is Cause.INITIALIZATION
    if condition is Condition.OSCILLATION:
        return cause in {Cause.LEARNING_RATE, Cause.MOMENTUM, Cause.BATCHING, Cause.OPTIMIZER, Cause.SCHEDULE}
    if condition is Condition.DEGRADATION:
        return cause is Cause.DEPTH
    if condition in _STATES:
        return cause in _OF_STATES | {Cause.INITIALIZATION, Cause.ACTIVATION, Cause.CLIPPING}
    if condition in {Condition.UNSCALED_INPUT, Condition.DISCONNECTED, Condition.UNDERFLOW}:
        return condition in _NAMED.get(cause, ())
    return True


def _same(before: Suspicion, after: Suspicion) -> bool:
    """Whether a treated run still shows what was seen: the same condition, at the start if it was, wherever it was.

    What is less than half as bad, in decades, has gone for the better part.
    """
    if before.condition is not after.condition or (before.at_start and not after.at_start):
        return False
    if after.decades < before.decades * _EASED:
        return False
    return not before.modules or set(before.modules) <= set(after.modules)


def _condition(arm: Arm, gone: Sequence[Suspicion], suspicions: Sequence[Suspicion]) -> Condition:
    return _by_cause(arm, suspicions) or _by_symptoms(arm, gone, suspicions)


def _by_cause(arm: Arm, suspicions: Sequence[Suspicion]) -> Condition | None:
    """What a cause is called by itself, given what was seen."""
    seen = [s.condition for s in suspicions]
    if arm.cause is Cause.LEARNING_RATE:
        return Condition.LEARNING_RATE_TOO_HIGH if arm.remedy.rate < 1 else Condition.LEARNING_RATE_TOO_LOW
    if arm.cause is Cause.SCHEDULE and not {Condition.NON_FINITE, Condition.EXPLODING}.isdisjoint(seen):
        return Condition.LEARNING_RATE_TOO_HIGH
    if arm.cause is Cause.DEPTH:  # gradient that is lost over depth from the start is told by what is lost
        lost = any(s.condition is Condition.VANISHING and s.at_start for s in suspicions)
        return Condition.VANISHING if lost else Condition.DEGRADATION
    states = [s for s in suspicions if s.condition in _STATES]
    if states and (arm.cause in _OF_STATES or any(set(s.modules) & set(arm.remedy.modules) for s in states)):
        return states[0].condition
    names = _NAMED.get(arm.cause, ())
    return next((name for name in names if name in seen), names[-1] if names else None)


def _by_symptoms(arm: Arm, gone: Sequence[Suspicion], suspicions: Sequence[Suspicion]) -> Condition:
    """The most harmful of what went away with the cause."""
    vanished = {s.condition for s in gone} or {s.condition for s in suspicions if _fits(s.condition, arm.cause)}
    if Condition.POOR_INITIALIZATION in vanished and arm.cause is Cause.INITIALIZATION:
        alike = next((s for s in suspicions if s.condition is Condition.POOR_INITIALIZATION), None)
        if alike and alike.numbers.get("identical_layers"):
            return Condition.POOR_INITIALIZATION
    return next((c for c in _ORDER if c in vanished), _fallback(arm.cause))


def _fallback(cause: Cause) -> Condition:
    """Name what an experiment alone can see: there was no symptom in any gradient."""
    return Condition.POOR_INITIALIZATION if cause is Cause.INITIALIZATION else Condition.PLATEAU


def _modules(
    arm: Arm, suspicions: Sequence[Suspicion], deviations: dict[str, float], output: tuple[str, ...]
) -> tuple[str, ...]:
    if arm.remedy.modules:
        return arm.remedy.modules
    if arm.cause is Cause.OUTPUT_ACTIVATION:
        return output
    off: list[str] = []
    if arm.cause is Cause.INITIALIZATION and deviations:
        usual = sorted(deviations.values())[len(deviations) // 2]
        off = [n for n, d in sorted(deviations.items(), key=lambda i: -i[1]) if d > max(usual, 0.5)]
    named = dict.fromkeys([*off, *(m for s in suspicions for m in s.modules)])
    if arm.cause is Cause.INITIALIZATION and not named:  # no symptom anywhere: all that was drawn again, farthest first
        return tuple(sorted(deviations, key=lambda name: -deviations[name]))
    return tuple(named)


def _summary(condition: Condition, arm: Arm) -> str:
    return f"{condition.sentence} Undone in an experiment ({arm.remedy.name}), the same network learns."
