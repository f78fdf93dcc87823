"""A cure as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import checkup_markdown, words
from graddoctor.show import cure_words as told
from graddoctor.show._marks import codes, fenced, pairs, plain, table
from graddoctor.show.checkup_markdown import ROWS
from graddoctor.show.cure import Budgets, CureReport, Evidence, Prescription, Race
from graddoctor.show.names import readable_cure
from graddoctor.show.report import Row, Waterfall
from graddoctor.show.thin import pair_name, pair_rows

CANDIDATES = 40
"""Candidates in the table of the race; the rest got no further."""


def blocks(report: CureReport) -> Iterator[str]:
    """Give the blocks of a cure, its verdict first."""
    report = readable_cure(report)
    yield f"# {report.verdict.capitalize()}: {plain(report.title)}"
    yield f"**{plain(report.headline)}**"
    yield f"{plain(told.effort(report.effort))}."
    if report.aborted:
        yield plain(told.ended_early(report))
    yield "## What is changed"
    yield "\n".join(map(_remedy, report.remedies)) or told.UNCHANGED[report.verdict]
    if report.proof is not None:
        yield from _proof(report.proof)
    if report.race is not None and report.race.rungs:
        yield from _race(report.race)
    if report.failed:
        yield "## Could not be trained"
        yield "\n".join(f"- {plain(one.name)}: {plain(one.reason)}" for one in report.failed)
    yield from _budgets(report.budgets)
    if report.curves is not None:
        yield "## Loss"
        yield plain(told.curves(report.curves))
    yield from _code(report)
    yield "## The checkup before"
    yield f"**{words.begun(report.checkup.verdict)}**. {plain(report.checkup.headline)}"
    yield from checkup_markdown.findings(report.checkup)
    if report.environment:
        yield pairs(report.environment)


def _remedy(one: Prescription) -> str:
    parts = [f"- **{plain(one.name)}**"]
    if one.causes:
        parts.append(f"against {told.causes(one)}. {told.why(one)}")
    if one.modules:
        parts.append(f"In {codes(one.modules)}.")
    if one.source:
        parts.append(f"Source: {plain(one.source)}.")
    return " ".join([*parts, f"Cost: {plain(one.cost) or 'nothing'}."])


def _proof(proof: Evidence) -> Iterator[str]:
    yield f"## Proof: {proof.verdict}"
    if proof.sentence:
        yield plain(proof.sentence)
    of = f"{plain(proof.name)}, on " if proof.name else "On "
    yield f"{of}{told.seeds(proof)}; {proof.measure}, higher is better."
    if proof.pairs:
        rows = [
            (
                f"{pair.seed}",
                told.measured(pair.before, proof.measure),
                told.measured(pair.after, proof.measure),
                told.gained(pair.difference, proof.measure),
                told.endings(pair),
            )
            for pair in proof.pairs
        ]
        yield table(("seed", told.GIVEN, told.TREATED, told.gain(proof.measure), ""), rows, (0, 1, 2, 3))
    yield " ".join(filter(None, (told.difference(proof), told.chance(proof), told.cost(proof))))


def _race(race: Race) -> Iterator[str]:
    yield "## Race"
    yield plain(told.race(race))
    runs = told.runs(race)
    rows = [(run.name, run.scores, f"{run.steps:,}", run.stage, run.fate) for run in runs[:CANDIDATES]]
    yield table(("candidate", f"{race.measure} by rung", "steps", "stage", ""), rows, (2,))
    if len(runs) > CANDIDATES:
        yield f"And {len(runs) - CANDIDATES} more, which got no further."


def _budgets(budgets: Budgets) -> Iterator[str]:
    if budgets.single is not None:
        yield from checkup_markdown.budget(budgets.single)
    if budgets.both is None:
        return
    before, after = budgets.both
    yield "## Gradient budget"
    yield plain(told.budgets(budgets))
    rows = [
        (pair_name(pair), _decades(pair[0], before), _decades(pair[1], after))
        for pair in pair_rows(before.rows, after.rows, ROWS)[::-1]
    ]
    totals = [f"**{words.signed(one.total)}**" for one in (before, after)]
    heads = ("from the loss to the input", f"decades {told.GIVEN}", f"decades {told.TREATED}")
    yield f"{table(heads, rows, (1, 2))}\n| **total** | {totals[0]} | {totals[1]} |"


def _decades(row: Row | None, waterfall: Waterfall) -> str:
    return "" if row is None else words.row_value(row, waterfall)


def _code(report: CureReport) -> Iterator[str]:
    if report.diff.strip():
        yield "## What to change in your file"
        yield fenced(report.diff, "diff")
    if report.source.strip():
        yield "## The treated parts, as plain PyTorch"
        yield fenced(report.source, "python")
