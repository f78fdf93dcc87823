"""How faces tell a cure: the same words and the same rounding in the terminal, on the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from graddoctor.show import words
from graddoctor.show.cure import (
    Budgets,
    CureReport,
    Curves,
    Effort,
    Entry,
    Evidence,
    Measure,
    PairedOutcome,
    Prescription,
    Race,
)
from graddoctor.show.report import LossCurve

GIVEN, TREATED = "as given", "as treated"

UNCHANGED = {
    "sound": "Nothing: the recipe is sound as it is.",
    "cured": "Nothing.",
    "not cured": "Nothing: no change was shown to help. What was tried stands below.",
    "interrupted": "Nothing: the search ended before anything was proven.",
}

_ENDINGS = {
    "non-finite": "the loss was not finite any more",
    "deadline": "the time was up",
    "stopped": "stopped",
    "failed": "it raised an error",
    "hung": "it did not come to an end",
    "interrupted": "interrupted",
}
_WHOLE = 10.0  # points of progress from which on a tenth of one says nothing


# --- figures ---------------------------------------------------------------------------------------------------------


def measured(value: float, measure: Measure) -> str:
    """One outcome: progress as ``"74 %"``, a metric as it is; a dash where there is no number."""
    if math.isnan(value):
        return "-"
    return words.percent(value) or words.figure(value) if measure == "progress" else words.figure(value)


def gained(value: float, measure: Measure) -> str:
    """A difference with its sign: in points of progress (hundredths), or in the metric's own unit."""
    if not math.isfinite(value):
        return "-"
    if measure == "progress":
        points = 100 * value
        return words.signed(points, 0 if abs(points) >= _WHOLE else 1)
    text = f"{value:+.3g}"
    return "0" if float(text) == 0 else text


def unit(measure: Measure) -> str:
    """What a difference is counted in."""
    return "points of progress" if measure == "progress" else "of the metric"


def gain(measure: Measure) -> str:
    """Head a column of differences."""
    return "difference, points" if measure == "progress" else "difference"


def factor(ratio: float) -> str:
    """A ratio as a factor: ``"1.12 ×"``."""
    return f"{ratio:.2f} ×"


# --- the proof -------------------------------------------------------------------------------------------------------


def difference(proof: Evidence) -> str:
    """Tell the mean difference and its interval; what was not measured is left out."""
    if not math.isfinite(proof.mean):
        return "No difference could be measured."
    told = f"Mean difference {gained(proof.mean, proof.measure)} {unit(proof.measure)}"
    if not (math.isfinite(proof.low) and math.isfinite(proof.high)):
        return f"{told}, without an interval."
    return f"{told}, 95 % interval {gained(proof.low, proof.measure)} to {gained(proof.high, proof.measure)}."


def seeds(proof: Evidence) -> str:
    """Say on how many fresh seeds, and whether all of them count."""
    told = words.number(len(proof.pairs), "fresh seed")
    if len(proof.pairs) < proof.planned:
        told += f" of {proof.planned} planned"
    if proof.distinct < len(proof.pairs):
        told += f", {proof.distinct} of them distinct"
    return told


def chance(proof: Evidence) -> str:
    """Say how often such a result would come up where there is no difference."""
    if not math.isfinite(proof.error):
        return ""
    return f"Where nothing differs, such a result comes up in {100 * proof.error:.2g} % of all proofs."


def cost(proof: Evidence) -> str:
    """Say what the change costs in time and in parameters."""
    told = []
    if math.isfinite(proof.cost_per_step):
        told.append(f"{factor(proof.cost_per_step)} the time of a step")
    before, after = proof.parameters_before, proof.parameters_after
    if after and before == after:
        told.append(f"{after:,} trainable parameters as before")
    elif before and after:
        told.append(f"{before:,} → {after:,} trainable parameters ({100 * (after / before - 1):+.2g} %)")
    return f"Cost: {', '.join(told)}." if told else ""


def ending(ended: str) -> str:
    """Say how a training came to an early end; empty where it was complete."""
    return "" if ended == "complete" else _ENDINGS.get(ended, ended)


def endings(pair: PairedOutcome) -> str:
    """Say which of a pair's trainings came to an early end, and how."""
    told = [(GIVEN, ending(pair.before_ended)), (TREATED, ending(pair.after_ended))]
    return "; ".join(f"{side}: {how}" for side, how in told if how)


# --- the rest --------------------------------------------------------------------------------------------------------


def causes(one: Prescription) -> str:
    """Name what a remedy is against: ``"activation, initialization"``."""
    return ", ".join(words.title(cause).lower() for cause in one.causes)


def why(one: Prescription) -> str:
    """Say why a remedy was chosen."""
    return one.causes[0].sentence if one.causes else ""


def budgets(pair: Budgets) -> str:
    """Tell both budgets in one sentence each."""
    told = [(GIVEN, pair.before), (TREATED, pair.after)]
    return " ".join(
        f"{words.begun(side)}: {_begun_small(words.toll(budget))}" for side, budget in told if budget is not None
    )


def _begun_small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def curves(pair: Curves) -> str:
    """Tell both loss curves in a sentence."""
    return f"Training loss under seed {pair.seed}: {_fall(pair.before)} {GIVEN}, {_fall(pair.after)} {TREATED}."


def _fall(curve: LossCurve) -> str:
    finite = [value for value in curve.smoothed or curve.values if value is not None]
    if not finite:
        return "never finite"
    told = f"{words.figure(finite[0])} → {words.figure(finite[-1])}"
    return told if curve.first_nonfinite is None else f"{told}, then not finite,"


def score(entry: Entry, measure: Measure) -> str:
    """How far a candidate got on a rung; ``"lost"`` where it gave no usable network."""
    return "lost" if entry.lost else measured(entry.score, measure)


def race(one: Race) -> str:
    """Tell a race in a sentence."""
    names = {entry.name for rung in one.rungs for entry in rung.entries}
    told = f"{words.number(len(names), 'candidate')} on {words.number(len(one.rungs), 'rung')}"
    return f"{told}: {one.winner} won." if one.winner else f"{told}, and nobody won."


def effort(spent: Effort) -> str:
    """Say what the search took."""
    told = [words.number(spent.steps, "training step")]
    if math.isfinite(spent.plain_runs):
        told[0] += f" ({spent.plain_runs:.3g} × the plain training)"
    told.append(words.duration(spent.seconds))
    where = words.number(spent.workers, "worker") if spent.workers else "one process"
    told.append(where if spent.threads == 1 else f"{where} with {words.number(spent.threads, 'thread')} each")
    return ", ".join(told)


def ended_early(report: CureReport) -> str:
    """Say that the search ended early, and why; empty where it did not."""
    if not report.aborted:
        return ""
    return f"Ended early: {report.aborted.rstrip('.')}. What follows rests on what was done until then."


@dataclass(frozen=True)
class Run:
    """One candidate's way through the race: its entries by rung, and what became of it."""

    name: str
    entries: Mapping[int, Entry]
    wins: bool
    scores: str
    steps: int
    stage: str
    fate: str


def runs(one: Race) -> list[Run]:
    """Tell every candidate's way through the race, who got furthest first."""
    entries: dict[str, dict[int, Entry]] = {}
    for place, rung in enumerate(one.rungs):
        for entry in rung.entries:
            entries.setdefault(entry.name, {})[place] = entry
    return sorted((_run(name, ways, one) for name, ways in entries.items()), key=_standing, reverse=True)


def _run(name: str, entries: dict[int, Entry], one: Race) -> Run:
    last = max(entries)
    wins = name == one.winner
    fate = "won" if wins else f"lost: {entries[last].lost}" if entries[last].lost else ""
    scores = " → ".join(score(entries[place], one.measure) for place in sorted(entries))
    return Run(name, entries, wins, scores, one.rungs[last].steps, one.rungs[last].title, fate)


def _standing(run: Run) -> tuple[bool, int, bool, float]:
    last = max(run.entries)
    entry = run.entries[last]
    usable = not entry.lost and not math.isnan(entry.score)
    return run.wins, last, usable, entry.score if usable else 0.0
