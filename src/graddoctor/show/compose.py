"""From an examination to its report: what was found, in the form that every face shows. Nothing is judged here."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch

from graddoctor.diagnose.examine import Examination
from graddoctor.observe import budget as observed
from graddoctor.observe.attention import AttentionReading
from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import ActivationReading
from graddoctor.recipe import Recipe
from graddoctor.show import words
from graddoctor.show.compose_time import through_time
from graddoctor.show.names import called, told
from graddoctor.show.report import (
    ActivationState,
    AttentionState,
    Coverage,
    CutKind,
    Event,
    HeatMap,
    LayerActivation,
    LayerAttention,
    LossCurve,
    LossShare,
    Part,
    Report,
    Row,
    UpdateRatios,
    Verdict,
    Waterfall,
)
from graddoctor.terms import Finding, Severity
from graddoctor.version import __version__

_DIES = frozenset({"relu", "relu6", "gelu", "silu", "mish", "hardswish", "threshold", "softplus"})
_SATURATES = frozenset({"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign", "softmax", "clamp", "logsigmoid"})
_ALL_DEAD = 0.999  # a share of dead units that counts as the whole layer
_ENDINGS = {
    "non-finite": "the loss was not finite any more",
    "deadline": "the time was up",
    "interrupted": "interrupted",
    "stopped": "nothing new was to be seen",
}


def compose(title: str, verdict: str, examination: Examination) -> Report:
    """Make the report of an examination.

    Parameters
    ----------
    title
        What reports call the recipe.
    verdict
        ``"healthy"``, ``"sick"`` or ``"inconclusive"``.
    """
    seen = examination.observation
    findings = tuple(sorted(examination.findings, key=lambda finding: -finding.severity))
    baseline = seen.yardstick.baseline if seen.yardstick.computed else None
    return Report(
        title=title,
        verdict=cast("Verdict", verdict),
        headline=_headline(verdict, findings, examination),
        findings=findings,
        notes=examination.notes,
        ruled_out=examination.ruled_out,
        trials=examination.trials,
        budget=waterfall(seen.start.budget, seen.expected),
        heat=_heat(seen.probes),
        activations=tuple(_activations(seen.probes)),
        updates=_updates(seen.probes),
        losses=LossCurve.from_values([float(loss) for loss in seen.outcome.losses], baseline=baseline),
        events=tuple(sorted(_events(examination), key=lambda event: event.step)),
        coverage=Coverage(
            steps_seen=seen.outcome.steps,
            steps_total=seen.outcome.total_steps,
            seconds=examination.seconds,
            experiments=len(examination.trials),
            experimented=examination.experimented,
            aborted=bool(examination.aborted),
            reason=examination.aborted,
        ),
        environment=_environment(seen.recipe),
        classes=dict(seen.start.classes),
        through_time=tuple(through_time(seen.probes)),
        attention=tuple(_attention(seen.probes)),
    )


def _headline(verdict: str, findings: tuple[Finding, ...], examination: Examination) -> str:
    ignored = ", ".join(words.title(one).lower() for one in examination.ignored)
    if verdict == "healthy":
        done = words.percent(min(examination.observation.progress, 1.0))
        found = f"what was found is ignored: {ignored}" if ignored else "nothing was found in its way"
        return f"It learns: {done} of what a constant answer leaves open is gone, and {found}."
    if verdict == "sick" and findings:
        first = told(findings[0], examination.observation.start.classes)
        return words.headline(first, len(findings) - 1)
    if ignored and not findings:
        return f"It does not learn as it could, and what was found is ignored: {ignored}."
    if examination.aborted:
        return f"No cause was confirmed before the end: {examination.aborted}."
    if not examination.learns:
        return "It does not learn, and no cause was confirmed."
    return "It learns, but less than it could, and no cause was confirmed."


# --- the budget ------------------------------------------------------------------------------------------------------


def waterfall(budget: observed.Budget | None, expected: observed.Budget | None = None) -> Waterfall | None:
    """Return a gradient budget as a picture shows it, with what theory expects of it; ``None`` where there is none."""
    if budget is None or not budget.rows:
        return None
    signals = dict(budget.signal.rows)
    foreseen = {} if expected is None else {row.name: row.decades for row in expected.rows if expected.cut is None}
    places = [place for place, row in enumerate(budget.rows) if row.name == budget.cut]
    end = places[-1] if places else -1
    return Waterfall(
        rows=tuple(
            replace(_row(row, signals.get(row.name), lost=place <= end), predicted_decades=foreseen.get(row.name))
            for place, row in enumerate(budget.rows)
        ),
        total=budget.total,
        signal_total=budget.signal.total,
        signal_reason=budget.signal.reason or "",
        cut=budget.cut,
        cut_kind=_cut_kind(budget.rows[end]) if places else None,
        by_kind=budget.by_kind(),
        losses=tuple(LossShare(one.name, one.share, one.modules) for one in budget.losses),
        predicted_total=math.fsum(foreseen.values()) if foreseen else None,
    )


def _cut_kind(row: observed.Row) -> CutKind:
    return "zero" if 0 in {row.start_norm, row.end_norm} else "nonfinite"


def _row(row: observed.Row, signal: float | None, *, lost: bool) -> Row:
    return Row(
        name=row.name,
        kind=row.kind,
        decades=None if lost else row.decades,
        modules=row.modules,
        size_decades=row.size_decades,
        signal_decades=signal,
        parts=tuple(map(_part, row.parts)),
    )


def _part(part: observed.Part) -> Part:
    return Part(part.name, part.kind, _known(part.decades), _known(part.share), tuple(map(_part, part.inside)))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- what was seen over time -----------------------------------------------------------------------------------------


def _heat(probes: tuple[Probe, ...]) -> HeatMap | None:
    """Norms at the cuts of the budget; cuts that a later graph does not have are left out at its step."""
    looks = {
        look.step: {row.name: row.start_norm for row in look.budget.rows} | {"output": look.budget.rows[-1].end_norm}
        for look in probes
        if look.budget is not None and look.budget.rows
    }
    if not looks:
        return None
    names = tuple(next(iter(looks.values())))
    return HeatMap.from_norms(names, tuple(looks), [[look.get(name) for look in looks.values()] for name in names])


def _activations(probes: tuple[Probe, ...]) -> Iterator[LayerActivation]:
    start, end = probes[0], probes[-1]
    last = {reading.name: reading for reading in end.activations} if end is not start else {}
    for reading in start.activations:
        if reading.name.startswith("loss:"):  # of the loss function, not of the network
            continue
        later = last.get(reading.name)
        yield LayerActivation(
            name=reading.name,
            kind=reading.kind,
            start=_state(reading, start.step),
            end=None if later is None else _state(later, end.step),
        )


def _state(reading: ActivationReading, step: int) -> ActivationState:
    edges, shares = reading.histogram or ((), ())
    sound = all(map(math.isfinite, (*edges, *shares)))
    return ActivationState(
        step=step,
        dead=reading.dead if reading.dead or reading.kind in _DIES else None,
        saturated=reading.saturated if reading.saturated or reading.kind in _SATURATES else None,
        slope=_known(reading.slope),
        edges=tuple(map(float, edges)) if sound else (),
        shares=tuple(map(float, shares)) if sound else (),
    )


def _attention(probes: tuple[Probe, ...]) -> Iterator[LayerAttention]:
    start, end = probes[0], probes[-1]
    last = {reading.name: reading for reading in end.attention} if end is not start else {}
    for reading in start.attention:
        later = last.get(reading.name)
        yield LayerAttention(
            name=reading.name,
            heads=reading.heads,
            keys=reading.keys,
            start=_attended(reading, start.step),
            end=None if later is None else _attended(later, end.step),
        )


def _attended(reading: AttentionReading, step: int) -> AttentionState:
    figures = ("logit_max", "logit_std", "entropy", "saturated", "similarity", "mixed", "rank")
    return AttentionState(step, **{name: _known(getattr(reading, name)) for name in figures})


def _updates(probes: tuple[Probe, ...]) -> UpdateRatios | None:
    looks = {
        look.step: {
            reading.name: reading.update / reading.norm
            for reading in look.parameters
            if reading.update is not None and reading.norm > 0
        }
        for look in probes
    }
    looks = {step: ratios for step, ratios in looks.items() if ratios}
    if not looks:
        return None
    moved = {name for ratios in looks.values() for name in ratios}
    names = tuple(dict.fromkeys(r.name for look in probes for r in look.parameters if r.name in moved))
    rows = [[ratios.get(name) for ratios in looks.values()] for name in names]
    return UpdateRatios.from_ratios(names, tuple(looks), rows)


def _events(examination: Examination) -> Iterator[Event]:
    seen = examination.observation
    first = seen.outcome.first_nonfinite
    if first is not None:
        yield Event(first, "first loss that is not finite", Severity.CRITICAL)
    norms = [float(norm) for norm in seen.raw_norms]
    odd = next((step for step, norm in enumerate(norms) if not math.isfinite(norm)), None)
    if odd is not None:
        yield Event(odd, "first gradient that is not finite", Severity.CRITICAL)
    gone: set[str] = set()
    for look in seen.probes:
        dead = [r.name for r in look.activations if r.dead >= _ALL_DEAD and r.name not in gone]
        gone.update(dead)
        if dead:
            layers = words.listing([called(name, seen.start.classes) for name in dead], 3)
            yield Event(look.step, f"no unit is alive any more in {layers}", Severity.WARNING)
    if seen.outcome.ended in _ENDINGS and seen.outcome.steps:
        yield Event(seen.outcome.steps - 1, f"training ended here: {_ENDINGS[seen.outcome.ended]}")


def _environment(recipe: Recipe) -> dict[str, str]:
    return {
        "graddoctor": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}".strip(),
        "device": str(recipe.device),
        "precision": str(recipe.precision or torch.get_default_dtype()).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "seed": str(recipe.seed),
    }
