"""Examine a recipe: train it as it is, look on, suspect, and let experiments decide."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from graddoctor.diagnose.decide import LEARNS, SOUND, Verdict, decide, nothing_to_gain, trial_of
from graddoctor.diagnose.findings import confirmed, unconfirmed
from graddoctor.diagnose.logbook import Logbook
from graddoctor.diagnose.observation import MANY, Monitor, Numbers, Observation
from graddoctor.diagnose.origin import origin_of
from graddoctor.diagnose.rules import RULES, suspect
from graddoctor.diagnose.suspicion import Rule, Suspicion
from graddoctor.errors import RecipeError
from graddoctor.observe.alike import AlikeReading, alike
from graddoctor.observe.budget import Budget
from graddoctor.observe.probe import Probe
from graddoctor.prove.experiment import Arm, Bench, Plain
from graddoctor.prove.yardstick import Yardstick, measure, smoothed, window_of
from graddoctor.randomness import kept_random_state, seed_everything
from graddoctor.recipe import Recipe, require_device
from graddoctor.recording import Recording
from graddoctor.remedies.data import come_ordered
from graddoctor.remedies.depth import deep_blocks
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.initialization import deviation
from graddoctor.remedies.precision import uses_low_precision
from graddoctor.remedies.survey import Survey
from graddoctor.terms import Cause, Condition, Finding, Severity, Trial
from graddoctor.theory.expected import foreseen
from graddoctor.train import BatchSource, Outcome, build_model, loss_of, train

POORLY = 0.5
"""Parameters without a gradient are told, also unconfirmed, where less than this is learned."""

EXPERIMENT_RUNS = 10.0
"""All experiments together may take so many times the steps of the plain run."""

STEPS = 2000
SECONDS = 300.0
"""Bounds on an examination where none are given: steps of the plain run, and seconds in all."""

INTERRUPTED = "interrupted"
"""What `Examination.aborted` says after Ctrl-C."""

_PLAIN_SHARE = 0.4  # of the seconds, where experiments are to follow
_ORDER_BATCHES = 64
_SHORT_RUN = 256  # steps; experiments on shorter runs may take as many as on one of these

Tell = Callable[..., None]
"""``tell(phase, done, total, detail)``."""


@dataclass(frozen=True)
class Examination:
    """What an examination found: the observation, the suspicions, what experiments said of them, and the findings.

    Attributes
    ----------
    findings, notes
        What is told as wrong, and suspicions that are only noted beside it.
    trials, ruled_out
        The experiments in the order in which they were run, and a sentence for each that did not help.
    learns
        Whether the plain run removed a tenth of the constant predictor's loss.
    experimented
        Whether experiments were allowed; ``aborted`` says why they, or the plain run, ended early (``""``: they did
        not).
    seconds
        How long all of it took.
    ignored
        What was found, and not told because it is to be ignored.
    """

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
    ignored: tuple[Condition, ...] = ()

    @property
    def verdict(self) -> Literal["healthy", "sick", "inconclusive"]:
        """Sick where a finding is certain (or none was to be confirmed), healthy where it learns without one."""
        certain = (f.confirmed or f.severity is Severity.CRITICAL or not self.experimented for f in self.findings)
        if any(certain):
            return "sick"
        return "healthy" if not self.findings and self.learns else "inconclusive"


def examine(
    recipe: Recipe,
    *,
    steps: int = STEPS,
    seconds: float = SECONDS,
    experiments: bool = True,
    ignore: frozenset[Condition] = frozenset(),
    rules: tuple[Rule, ...] = RULES,
    tell: Tell = lambda *_: None,
    recording: Recording | None = None,
) -> Examination:
    """Train a recipe as it is, then put what is suspected to experiments; random state stays as it was.

    Parameters
    ----------
    steps
        The plain run takes so many steps at most, through the whole of its schedule.
    seconds
        After so many everything must end; the plain run after its share of them.
    ignore
        Conditions that are not to be told.
    rules
        What suspects.
    tell
        Told how far it is.
    recording
        Where the plain run is written down.

    Raises
    ------
    RecipeError
        The recipe cannot be trained as it is.
    """
    began = time.monotonic()
    share = _PLAIN_SHARE if experiments else 1.0
    with kept_random_state(), torch.enable_grad():
        seed_everything(recipe.seed)
        seen = observe(recipe, steps=steps, deadline=began + share * seconds, tell=tell, recording=recording)
        suspicions = tuple(s for s in suspect(seen, rules) if s.condition not in ignore)
        verdict = _verdict(seen, suspicions, began + seconds, tell, experiments=experiments)
        arm = verdict.arm
        trials = tuple(trial_of(a, helped=arm is not None and a.remedy.name == arm.remedy.name) for a in verdict.arms)
        findings = _findings(
            seen, suspicions, arm, trials, experiments=experiments and bool(verdict.arms or not verdict.aborted)
        )
    ignored = tuple(f.condition for f in findings if f.condition in ignore)
    findings = tuple(f for f in findings if f.condition not in ignore)
    told = {c for f in findings for c in (f.condition, *f.consequences)}
    return Examination(
        observation=seen,
        suspicions=suspicions,
        findings=findings,
        notes=tuple(
            unconfirmed(s, Severity.NOTE) for s in suspicions if s.condition not in told and not _idle(s, seen)
        ),
        trials=trials,
        ruled_out=() if arm else tuple(t.sentence for t in trials),  # a finding tells its own experiments
        learns=seen.progress >= LEARNS,
        experimented=experiments,
        aborted=verdict.aborted or ("time for the plain run was used up" if seen.outcome.ended == "deadline" else ""),
        seconds=time.monotonic() - began,
        ignored=ignored,
    )


def _verdict(
    seen: Observation, suspicions: tuple[Suspicion, ...], deadline: float, tell: Tell, *, experiments: bool
) -> Verdict:
    """Let experiments decide, where there is something to gain; what was run before Ctrl-C counts."""
    if seen.outcome.ended == INTERRUPTED:
        return Verdict(None, aborted=INTERRUPTED)
    if not experiments or (nothing_to_gain(seen.progress, seen.outcome.evaluation) and not seen.ordered):
        return Verdict(None)
    plain = Plain(seen.outcome, seen.yardstick, seen.progress)
    bench = _bench(seen.recipe, plain, deadline, tell)
    try:
        return decide(seen, suspicions, bench)
    except KeyboardInterrupt:
        return Verdict(None, tuple(bench.arms.values()), INTERRUPTED)


def observe(
    recipe: Recipe,
    *,
    steps: int,
    deadline: float = math.inf,
    tell: Tell = lambda *_: None,
    recording: Recording | None = None,
) -> Observation:
    """Train a recipe once as it is, with the probe at its side, and measure the yardstick.

    Raises
    ------
    RecipeError
        The recipe cannot be trained as it is.
    """
    require_device(recipe.device)
    _refuse_what_repeats(recipe)
    batches = BatchSource(recipe).first(_ORDER_BATCHES)
    low_precision = uses_low_precision(recipe, build_model(recipe), batches[0]) if batches else False
    logbook = None if recording is None else Logbook(recording)
    monitor = Monitor(recipe, announce=lambda done, of: tell("training", done, of, ""), logbook=logbook)
    try:
        outcome = train(recipe, steps=steps, observer=monitor, deadline=deadline)
    except Exception as error:
        if logbook:
            logbook.crashed(len(monitor.rates), error)
        raise
    if not monitor.probes:  # Ctrl-C before the first look was over
        raise KeyboardInterrupt
    try:
        monitor.finish(outcome)
        reading = _read(recipe, monitor.probes[0])
        yardstick = measure(recipe, reading.survey)
    except KeyboardInterrupt:
        reading, yardstick = _Reading(), _provisional(outcome)
        outcome = replace(outcome, ended=INTERRUPTED)
    if logbook:
        logbook.ended(outcome.steps, outcome.ended)
    raw, clipped = monitor.norms()
    return Observation(
        recipe=recipe,
        outcome=outcome,
        probes=tuple(monitor.probes),
        yardstick=yardstick,
        progress=progress_of(outcome.losses, outcome.steps_per_epoch, yardstick),
        survey=reading.survey,
        deep_blocks=reading.deep_blocks,
        alike=reading.alike,
        expected=reading.expected,
        deviations=reading.deviations,
        raw_norms=raw,
        clipped_norms=clipped,
        rates=monitor.rate_curve(),
        groups=monitor.groups,
        missing=monitor.missing,
        low_precision=low_precision,
        ordered=come_ordered(batches),
        planned=monitor.steps,
    )


def _refuse_what_repeats(recipe: Recipe) -> None:
    """Refuse builders that give the same object twice: the second run would begin where the first one ended."""
    if build_model(recipe) is build_model(recipe):
        msg = (
            "model must build a new network at every call; it returned the same object twice: "
            "build it inside the function, or return copy.deepcopy(network)"
        )
        raise RecipeError(msg)
    if not callable(recipe.batches):
        return
    with kept_random_state():
        first = recipe.batches()
        again = recipe.batches() if isinstance(first, Iterator) else None
    if isinstance(first, Iterator) and again is first:
        msg = (
            f"batches gave the same {type(first).__name__} object twice, which is used up after one pass: "
            "make a new one at every call, as in  batches=lambda: make_batches()"
        )
        raise RecipeError(msg)


def _provisional(outcome: Outcome) -> Yardstick:
    """Stand-in for a yardstick that could not be measured any more: the first loss that is a number."""
    finite = outcome.losses[np.isfinite(outcome.losses)]
    return Yardstick(float(finite[0]) if len(finite) else 1.0, computed=False)


def progress_of(losses: Numbers, steps_per_epoch: int, yardstick: Yardstick) -> float:
    """Progress at the end of a run, over the window that experiments use too."""
    return yardstick.progress(smoothed(losses, window_of(steps_per_epoch, len(losses))))


@dataclass(frozen=True)
class _Reading:
    """What is read of a network as built: what its forward does with each weight, and what makes it deep."""

    survey: Survey | None = None
    deviations: dict[str, float] = field(default_factory=dict)
    deep_blocks: tuple[str, ...] = ()
    alike: tuple[AlikeReading, ...] = ()
    expected: Budget | None = None


def _read(recipe: Recipe, start: Probe) -> _Reading:
    facts = Facts(recipe)
    off = deviation(facts.model, facts.survey) if facts.survey else {}
    deep = deep_blocks(facts)
    return _Reading(facts.survey, off, deep, _alike(facts, deep), _expected(facts, start))


def _expected(facts: Facts, start: Probe) -> Budget | None:
    """What theory expects; of a loop that is unrolled it has a law for each cell, and none for its rows."""
    if start.budget is None or (start.temporal and len(start.operations) > MANY):
        return None
    return foreseen(facts.model, lambda m, b: loss_of(facts.recipe, m, b), facts.batch)


def _alike(facts: Facts, deep: tuple[str, ...]) -> tuple[AlikeReading, ...]:
    """What becomes of the samples from the first of many blocks to the last."""
    if not deep:
        return ()
    try:
        return alike(facts.model, lambda m, b: loss_of(facts.recipe, m, b), facts.batch, (deep[0], deep[-1]))
    except Exception:  # noqa: BLE001 - a sign that cannot be read is missing, and nothing rests on it
        return ()


def _bench(recipe: Recipe, plain: Plain, deadline: float, tell: Tell) -> Bench:
    length = plain.outcome.total_steps if plain.outcome.ended == "non-finite" else plain.outcome.steps
    numbers = itertools.count(1)
    steps = int(EXPERIMENT_RUNS * max(length, _SHORT_RUN))
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
        try:
            left = suspect(_treated(arm, seen))
        except KeyboardInterrupt:  # the cause is known; what would have gone with it is not
            left = suspicions
        finding = confirmed(
            arm, suspicions, left, trials, missing=missing, deviations=seen.deviations, output=_output_modules(seen)
        )
        return (finding,)
    if nothing_to_gain(seen.progress, seen.outcome.evaluation):
        return ()
    if experiments:  # nothing that was tried helps: say what is certain
        certain = {Condition.DISCONNECTED} if seen.progress < POORLY else set()
        if seen.progress < LEARNS:
            certain |= {Condition.NON_FINITE, Condition.PLATEAU}
        told = [s for s in suspicions if s.condition in certain or _blows_up(s, seen)][:1]
        return tuple(_certain(s, seen) for s in told)
    if seen.progress >= LEARNS:  # it learns, and nothing says that a symptom does harm: notes at most
        return ()
    return tuple(unconfirmed(s, Severity.WARNING) for s in suspicions if not _idle(s, seen))


def _blows_up(suspicion: Suspicion, seen: Observation) -> bool:
    """Whether a state grows from the first step on, and nothing is learned: that needs no experiment."""
    return suspicion.condition is Condition.RECURRENT_EXPLODING and suspicion.at_start and seen.progress < LEARNS


def _idle(suspicion: Suspicion, seen: Observation) -> bool:
    """Whether it is not even worth a note.

    Steps of a loss that is almost gone spread widely by nature, and those of a loss that is lost in the end; that depth
    does harm is for an experiment to say.
    """
    lost = seen.outcome.first_nonfinite is not None
    return suspicion.condition is Condition.DEGRADATION or (
        suspicion.condition is Condition.OSCILLATION and (lost or 1 - seen.progress < SOUND)
    )


def _certain(suspicion: Suspicion, seen: Observation) -> Finding:
    """Tell what needs no experiment; a loss that was lost is critical where one operation is seen to lose it."""
    bad = seen.outcome.first_nonfinite
    origin = None
    if suspicion.condition is Condition.NON_FINITE and bad is not None:
        origin = origin_of(seen.recipe, bad, seen.planned)
    if origin is None:
        return unconfirmed(suspicion, Severity.WARNING)
    traced = replace(
        suspicion,
        modules=(origin.module,) if origin.module else suspicion.modules,
        sentence=f"{suspicion.sentence} {origin.sentence}",
        causes=(origin.cause,) if origin.cause else suspicion.causes,
    )
    return unconfirmed(traced, Severity.CRITICAL if origin.cause else Severity.WARNING)


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
        kept = any(True for _ in arm.outcome.model.parameters())  # a bench lets go of networks of past arms
        probes = monitor.finish(arm.outcome) if kept else tuple(monitor.probes)
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
