"""Examine a recipe: train it as it is, look on, suspect, and let experiments decide."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from graddoctor.diagnose.decide import SOUND, Verdict, decide, trial_of
from graddoctor.diagnose.findings import confirmed, unconfirmed
from graddoctor.diagnose.observation import Monitor, Numbers, Observation
from graddoctor.diagnose.rules import RULES, suspect
from graddoctor.diagnose.suspicion import Rule, Suspicion
from graddoctor.errors import RecipeError
from graddoctor.prove.experiment import Arm, Bench, Plain
from graddoctor.prove.yardstick import Yardstick, measure, smoothed, window_of
from graddoctor.recipe import Recipe
from graddoctor.remedies.data import come_ordered
from graddoctor.remedies.initialization import deviation
from graddoctor.remedies.precision import uses_low_precision
from graddoctor.remedies.survey import Survey, survey
from graddoctor.terms import Cause, Condition, Finding, Severity, Trial
from graddoctor.train import BatchSource, build_model, train

LEARNS = 0.1
"""A run that removes less than this share of the constant predictor's loss does not learn."""

POORLY = 0.5
"""Parameters without a gradient are told, also unconfirmed, where less than this is learned."""

EXPERIMENT_RUNS = 10.0
"""All experiments together may take so many times the steps of the plain run."""

_ORDER_BATCHES = 64

Tell = Callable[..., None]
"""``tell(phase, done, total, detail)``."""


@dataclass(frozen=True)
class Examination:
    """What an examination found: the observation, the suspicions, what experiments said of them, and the findings."""

    observation: Observation
    suspicions: tuple[Suspicion, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    ruled_out: tuple[str, ...]
    learns: bool
    experimented: bool
    aborted: str = ""
    seconds: float = 0.0


def examine(
    recipe: Recipe,
    *,
    steps: int,
    deadline: float,
    plain_deadline: float,
    experiments: bool = True,
    ignore: frozenset[Condition] = frozenset(),
    rules: tuple[Rule, ...] = RULES,
    tell: Tell = lambda *_: None,
) -> Examination:
    """Train a recipe as it is, then put what is suspected to experiments.

    Parameters
    ----------
    steps
        The plain run takes so many steps at most, through the whole of its schedule.
    deadline, plain_deadline
        ``time.monotonic()`` at which everything, and the plain run, must end.
    ignore
        Conditions that are not to be told.
    """
    began = time.monotonic()
    seen = observe(recipe, steps=steps, deadline=plain_deadline, tell=tell)
    suspicions = tuple(s for s in suspect(seen, rules) if s.condition not in ignore)
    missing = 1 - seen.progress
    interrupted = seen.outcome.ended == "interrupted"
    verdict = Verdict(None, aborted="interrupted" if interrupted else "")
    plain = Plain(seen.outcome, seen.yardstick, seen.progress)
    wanted = (missing >= SOUND or seen.ordered) and not interrupted
    if experiments and wanted:
        bench = _bench(recipe, plain, deadline, tell)
        verdict = decide(seen, suspicions, bench)
    arm = verdict.arm
    trials = tuple(trial_of(a, helped=arm is not None and a.remedy.name == arm.remedy.name) for a in verdict.arms)
    findings = _findings(seen, suspicions, arm, trials, experiments=experiments and not verdict.aborted)
    findings = tuple(f for f in findings if f.condition not in ignore)
    told = {c for f in findings for c in (f.condition, *f.consequences)}
    return Examination(
        observation=seen,
        suspicions=suspicions,
        findings=findings,
        notes=tuple(unconfirmed(s, Severity.NOTE) for s in suspicions if s.condition not in told),
        trials=trials,
        ruled_out=tuple(t.sentence for t in trials if not t.helped),
        learns=seen.progress >= LEARNS,
        experimented=experiments,
        aborted=verdict.aborted or ("time for the plain run was used up" if seen.outcome.ended == "deadline" else ""),
        seconds=time.monotonic() - began,
    )


def observe(recipe: Recipe, *, steps: int, deadline: float = math.inf, tell: Tell = lambda *_: None) -> Observation:
    """Train a recipe once as it is, with the probe at its side, and measure the yardstick."""
    model = build_model(recipe)
    if build_model(recipe) is model:
        msg = (
            "model must build a new network at every call; it returned the same object twice: "
            "build it inside the function, or return copy.deepcopy(network)"
        )
        raise RecipeError(msg)
    batches = BatchSource(recipe).first(_ORDER_BATCHES)
    low_precision = uses_low_precision(recipe, model, batches[0]) if batches else False
    monitor = Monitor(recipe, announce=lambda done, of: tell("training", done, of))
    outcome = train(recipe, steps=steps, observer=monitor, deadline=deadline)
    probes = monitor.finish(outcome)
    seen, deviations = _survey(recipe)
    yardstick = measure(recipe, seen)
    raw, clipped = monitor.norms()
    return Observation(
        recipe=recipe,
        outcome=outcome,
        probes=probes,
        yardstick=yardstick,
        progress=progress_of(outcome.losses, outcome.steps_per_epoch, yardstick),
        survey=seen,
        deviations=deviations,
        raw_norms=raw,
        clipped_norms=clipped,
        rates=monitor.rate_curve(),
        groups=monitor.groups,
        missing=monitor.missing,
        low_precision=low_precision,
        ordered=come_ordered(batches),
    )


def progress_of(losses: Numbers, steps_per_epoch: int, yardstick: Yardstick) -> float:
    """Progress at the end of a run, over the window that experiments use too."""
    return yardstick.progress(smoothed(losses, window_of(steps_per_epoch, len(losses))))


def _survey(recipe: Recipe) -> tuple[Survey | None, dict[str, float]]:
    """What the forward pass does with each weight; nothing where it cannot be read call by call."""
    try:
        model = build_model(recipe)
        seen = survey(recipe, model)
        return seen, deviation(model, seen)
    except RecipeError:
        raise
    except Exception:  # noqa: BLE001 - a forward that a function mode cannot follow is surveyed by the probe alone
        return None, {}


def _bench(recipe: Recipe, plain: Plain, deadline: float, tell: Tell) -> Bench:
    length = plain.outcome.total_steps if plain.outcome.ended == "non-finite" else plain.outcome.steps
    numbers = itertools.count(1)
    steps = int(EXPERIMENT_RUNS * max(length, 64))
    return Bench(
        recipe, plain, steps=steps, deadline=deadline, announce=lambda n: tell("experiment", next(numbers), None, n)
    )


def _findings(
    seen: Observation,
    suspicions: tuple[Suspicion, ...],
    arm: Arm | None,
    trials: tuple[Trial, ...],
    *,
    experiments: bool,
) -> tuple[Finding, ...]:
    missing = 1 - seen.progress
    if arm is not None and arm.outcome is not None:
        left = suspect(_treated(arm, seen))
        finding = confirmed(
            arm, suspicions, left, trials, missing=missing, deviations=seen.deviations, output=_output_modules(seen)
        )
        return (finding,)
    severity = Severity.WARNING
    if missing < SOUND:
        return ()
    if experiments:  # nothing that was tried helps: say what is certain
        certain = {Condition.DISCONNECTED} if seen.progress < POORLY else set()
        if seen.progress < LEARNS:
            certain |= {Condition.NON_FINITE, Condition.PLATEAU}
        return tuple(unconfirmed(s, severity) for s in suspicions if s.condition in certain)[:1]
    return tuple(unconfirmed(s, severity) for s in suspicions)


def _output_modules(seen: Observation) -> tuple[str, ...]:
    """The module that makes the output, and the last one with parameters before it."""
    made = seen.start.output.module if seen.start.output else ""
    last = [p.module for p in seen.start.parameters if p.gradient is not None]
    return tuple(dict.fromkeys(name for name in (made, *last[-1:]) if name))


def _treated(arm: Arm, seen: Observation) -> Observation:
    """Observe the run of an arm: at its start, and at the weights that it ended with."""
    assert arm.outcome is not None  # noqa: S101 - asked only of arms that ran
    monitor = Monitor(arm.recipe)
    with arm.remedy.around():
        model = build_model(arm.recipe)
        optimizer = arm.recipe.optimizer(model)
        monitor.built(model, optimizer, 1)
        monitor.look(model, 0)
        probes = monitor.finish(arm.outcome)
    return replace(
        seen,
        recipe=arm.recipe,
        outcome=arm.outcome,
        probes=probes,
        progress=arm.progress,
        deviations={},
        raw_norms=seen.raw_norms[:0],
        missing=monitor.missing,
        low_precision=arm.cause is not Cause.PRECISION and seen.low_precision,
        ordered=False,
    )


__all__ = ["Examination", "Yardstick", "examine", "observe"]
