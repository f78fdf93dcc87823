"""From a treatment to its report, in the form that every face shows. Nothing is judged here."""

from __future__ import annotations

import math
from collections.abc import Mapping

from graddoctor.observe.probe import probe
from graddoctor.prove.proof import Proof
from graddoctor.prove.task import Result
from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.show.compose import waterfall
from graddoctor.show.cure import (
    Budgets,
    CureReport,
    Curves,
    Effort,
    Entry,
    Evidence,
    FailedTrial,
    Measure,
    PairedOutcome,
    Prescription,
    Race,
    Rung,
)
from graddoctor.show.cure_headline import headline
from graddoctor.show.cure_words import ending
from graddoctor.show.report import LossCurve, Report, Waterfall
from graddoctor.train import BatchSource, build_model, loss_of
from graddoctor.treat.race import Entry as Raced
from graddoctor.treat.search import Found
from graddoctor.treat.treatment import Treatment


def compose_cure(
    checkup: Report, treatment: Treatment, *, source: str, diff: str, seconds: float, workers: int, threads: int
) -> CureReport:
    """Make the report of a treatment.

    Parameters
    ----------
    checkup
        The report of what was found before.
    source, diff
        The change as plain PyTorch, and as a patch of the user's file; ``""`` where there is none.
    seconds
        What all of it took.
    """
    proof = treatment.proof
    winner = treatment.found.remedy if treatment.found else None
    after, classes = _after(treatment.recipe) if treatment.remedies else (None, checkup.classes)
    return CureReport(
        title=checkup.title,
        verdict=treatment.verdict,
        headline=headline(treatment),
        checkup=checkup,
        remedies=tuple(map(_prescription, treatment.remedies)),
        proof=_evidence(proof, winner) if proof and winner else None,
        curves=_curves(proof, checkup) if proof else None,
        budgets=Budgets(checkup.budget, after),
        race=_race(treatment.found, treatment.given) if treatment.found else None,
        failed=tuple(FailedTrial(*one) for one in treatment.failed),
        effort=_effort(treatment, seconds, workers, threads),
        aborted=treatment.aborted,
        source=source,
        diff=diff,
        environment=checkup.environment,
        classes=classes,
    )


def _prescription(remedy: Remedy) -> Prescription:
    return Prescription(remedy.name, remedy.causes, remedy.source, remedy.cost, remedy.modules)


def _evidence(proof: Proof, winner: Remedy) -> Evidence:
    return Evidence(
        measure=proof.measure,
        verdict=proof.verdict,
        mean=proof.mean,
        low=proof.low,
        high=proof.high,
        error=proof.error,
        planned=proof.planned,
        distinct=proof.distinct,
        pairs=tuple(
            PairedOutcome(
                pair.seed,
                _outcome(pair.before, proof),
                _outcome(pair.after, proof),
                pair.difference,
                pair.before.ended,
                pair.after.ended,
            )
            for pair in proof.pairs
        ),
        cost_per_step=proof.cost,
        parameters_before=proof.parameters_before,
        parameters_after=proof.parameters_after,
        sentence=proof.sentence,
        name=winner.name,
    )


def _outcome(result: Result, proof: Proof) -> float:
    value = result.metric if proof.measure == "metric" else result.progress
    return math.nan if value is None else value


def _curves(proof: Proof, checkup: Report) -> Curves | None:
    """Losses of the first pair, the steps of its points spread evenly."""
    if not proof.pairs:
        return None
    pair = proof.pairs[0]
    baseline = checkup.losses.baseline if checkup.losses is not None else None
    return Curves(_curve(pair.before, baseline), _curve(pair.after), pair.seed)


def _curve(result: Result, baseline: float | None = None) -> LossCurve:
    points = len(result.curve)
    spread = (result.steps - 1) / max(points - 1, 1)
    return LossCurve.from_values(result.curve, [round(k * spread) for k in range(points)], baseline)


def _after(recipe: Recipe) -> tuple[Waterfall | None, Mapping[str, str]]:
    """The gradient budget of the treated recipe before its first step, and what its modules are."""
    try:
        model = build_model(recipe)
        batch = BatchSource(recipe).first(1)
        look = probe(model, lambda net, one: loss_of(recipe, net, one), batch, step=0)
        return waterfall(look.budget), dict(look.classes)
    except Exception:  # noqa: BLE001 - a picture is not worth a lost report
        return None, {}


def _race(found: Found, recipe: Recipe) -> Race:
    rungs = tuple(Rung(rung.steps, tuple(map(_entry, rung.entries)), rung.title) for rung in found.rungs)
    measure: Measure = "progress" if recipe.evaluate is None else "metric"
    return Race(rungs, found.remedy.name if found.remedy else "", measure)


def _entry(entry: Raced) -> Entry:
    result = entry.result
    lost = (result.failed or ending(result.ended) or "the loss is not finite") if result.lost else ""
    return Entry(entry.name, entry.score if math.isfinite(entry.score) else math.nan, entry.kept, lost)


def _effort(treatment: Treatment, seconds: float, workers: int, threads: int) -> Effort:
    steps = sum(result.steps for _, result in treatment.trials)
    plain = next((result.steps for task, result in treatment.trials if task.remedy is None), 0)
    return Effort(steps, seconds, steps / plain if plain else math.nan, workers, threads)
