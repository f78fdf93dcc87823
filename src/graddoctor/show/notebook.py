"""A report in a notebook: a fragment of HTML that needs no script, so that it also shows on pages that allow none."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from markupsafe import Markup

from graddoctor.show import attention as table
from graddoctor.show import cure_words, explanation_words, lab_words, prediction_words, words
from graddoctor.show._templates import template
from graddoctor.show.cure import AnyReport, CureReport
from graddoctor.show.explanation import Explanation
from graddoctor.show.lab import LabReport
from graddoctor.show.markdown import to_markdown
from graddoctor.show.names import readable, readable_budget, readable_cure
from graddoctor.show.palette import DARK, LIGHT
from graddoctor.show.prediction import PredictionReport
from graddoctor.show.report import Report, Row
from graddoctor.show.text import to_text
from graddoctor.show.thin import fold, pair_name, pair_rows

ROWS = 60
"""Budget rows in a notebook; smaller ones beyond are folded together."""

CANDIDATES = 40
"""Candidates of a race in a notebook; the rest got no further."""


def notebook_html(report: AnyReport) -> str:
    """Give a report as a piece of HTML to stand within another page."""
    name, values = _of(report)
    return template(name).render(
        **values,
        words=words,
        light=Markup(LIGHT.css()),  # noqa: S704 - our own colours
        dark=Markup(DARK.css()),  # noqa: S704 - our own colours
    )


def _of(report: AnyReport) -> tuple[str, dict[str, Any]]:
    if isinstance(report, CureReport):
        return _of_cure(report)
    if isinstance(report, LabReport):
        return "lab_notebook.html.j2", {"report": report, "told": lab_words}
    if isinstance(report, Explanation):
        return "explanation_notebook.html.j2", explanation_words.values(report)
    return _of_prediction(report) if isinstance(report, PredictionReport) else _of_checkup(report)


def _of_prediction(report: PredictionReport) -> tuple[str, dict[str, Any]]:
    budget = readable_budget(report.budget, report.classes)
    rows = () if budget is None else fold(budget.rows, ROWS)[::-1]
    values = {"report": report, "told": prediction_words, "waterfall": budget, "rows": rows, "widest": _widest(rows)}
    return "prediction_notebook.html.j2", values


def _of_checkup(report: Report) -> tuple[str, dict[str, Any]]:
    report = readable(report)
    rows = () if report.budget is None else fold(report.budget.rows, ROWS)[::-1]
    return "notebook.html.j2", {"report": report, "rows": rows, "widest": _widest(rows), "attention": table}


def _of_cure(report: CureReport) -> tuple[str, dict[str, Any]]:
    report = readable_cure(report)
    both, single = report.budgets.both, report.budgets.single
    pairs = () if both is None else pair_rows(both[0].rows, both[1].rows, ROWS)[::-1]
    named = [(pair_name(pair), *pair) for pair in pairs]
    rows = () if single is None else fold(single.rows, ROWS)[::-1]
    runs = cure_words.runs(report.race)[:CANDIDATES] if report.race is not None else []
    widest = _widest([*rows, *(row for pair in pairs for row in pair)])
    values = {"report": report, "told": cure_words, "pairs": named, "rows": rows, "widest": widest, "runs": runs}
    return "cure_notebook.html.j2", values


def _widest(rows: Iterable[Row | None]) -> float:
    return max((abs(row.decades) for row in rows if row is not None and row.decades is not None), default=0.0) or 1.0


def mimebundle(
    report: AnyReport, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """Give a report in the forms that a notebook can choose from, as ``_repr_mimebundle_`` does."""
    faces = {"text/plain": to_text, "text/markdown": to_markdown, "text/html": notebook_html}
    return {
        kind: face(report)
        for kind, face in faces.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }
