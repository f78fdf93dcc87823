"""The page of a cure: what is changed, the proof, before and after, the race, and what to paste."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from graddoctor.show import cure_charts as charts
from graddoctor.show import cure_words as told
from graddoctor.show import words
from graddoctor.show._code import coloured
from graddoctor.show._page import Detail, Figure, alone, figure, quick, rendered
from graddoctor.show.cure import CureReport, Evidence
from graddoctor.show.ledger import Ledger, ledger, ledger_of_two
from graddoctor.show.names import readable_cure
from graddoctor.show.palette import PAGE


@dataclass(frozen=True)
class Code:
    """A piece of code on the page."""

    key: str
    title: str
    hint: str
    html: Markup


def page(report: CureReport, detail: Detail) -> str:
    """Give a cure as a page."""
    report = readable_cure(report)
    with quick():
        figures = alone(list(_figures(report, detail)))
    single = report.budgets.single
    return rendered(
        "cure.html.j2",
        figures,
        report=report,
        proof=report.proof,
        words=words,
        told=told,
        charts=dict.fromkeys(("outcomes", "difference", "curves", "race")) | {one.key: one for one in figures},
        pair=_pair(report, detail),
        ledger=None if single is None else ledger(single, detail.rows, detail.parts),
        runs=told.runs(report.race) if report.race is not None else [],
        codes=list(_codes(report)),
    )


def _pair(report: CureReport, detail: Detail) -> Ledger | None:
    both = report.budgets.both
    return None if both is None else ledger_of_two(*both, detail.rows, detail.parts)


def _figures(report: CureReport, detail: Detail) -> Iterator[Figure]:
    proof = report.proof
    if proof is not None:
        yield from _outcomes(proof)
    if report.curves is not None and (report.curves.before.steps or report.curves.after.steps):
        chart = charts.curves_chart(report.curves, PAGE)
        caption = (
            "The same seed on both sides; a network below the dashed line has learned more than a constant answer."
        )
        yield figure("curves", "Loss", chart, f"{told.curves(report.curves)} {caption}")
    if report.race is not None and report.race.rungs:
        chart = charts.race_chart(report.race, detail.candidates, PAGE)
        hidden = len(told.runs(report.race)) - detail.candidates
        more = f" {words.number(hidden, 'candidate')} more got no further." if hidden > 0 else ""
        caption = f"From left to right, rung by rung; a line is drawn on as long as its candidate is in the race.{more}"
        yield figure("race", "Race", chart, caption, told=told.race(report.race))


def _outcomes(proof: Evidence) -> Iterator[Figure]:
    if any(math.isfinite(value) for pair in proof.pairs for value in (pair.before, pair.after)):
        caption = f"From the {proof.measure} as given to the {proof.measure} as treated, seed by seed."
        yield figure(
            "outcomes", "Paired outcomes", charts.outcomes_chart(proof, PAGE), caption, told=proof.sentence, narrow=True
        )
    if any(math.isfinite(pair.difference) for pair in proof.pairs):
        caption = "The difference under each seed. An interval that stays right of the line at zero shows a gain."
        yield figure(
            "difference",
            "Difference",
            charts.difference_chart(proof, PAGE),
            caption,
            told=told.difference(proof),
            narrow=True,
        )


def _codes(report: CureReport) -> Iterator[Code]:
    if report.diff.strip():
        hint = "What to change in your own file, as a unified diff for git apply or patch."
        yield Code("diff", "The change in your file", hint, coloured(report.diff, "diff"))
    if report.source.strip():
        hint = "Plain PyTorch around your own builder; it needs no graddoctor."
        yield Code("source", "The change as a module", hint, coloured(report.source, "python"))
