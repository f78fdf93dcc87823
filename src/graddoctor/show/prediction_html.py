"""The page of a prediction."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import prediction_words as told
from graddoctor.show import words
from graddoctor.show._page import Detail, Figure, alone, figure, quick, rendered
from graddoctor.show.ledger import ledger
from graddoctor.show.names import readable_budget
from graddoctor.show.palette import PAGE
from graddoctor.show.prediction import PredictionReport
from graddoctor.show.prediction_charts import phase_chart


def page(report: PredictionReport, detail: Detail) -> str:
    """Give a prediction as a page."""
    budget = readable_budget(report.budget, report.classes)
    with quick():
        figures = alone(list(_figures(report)))
    return rendered(
        "prediction.html.j2",
        figures,
        report=report,
        words=words,
        told=told,
        ledger=None if budget is None or not budget.rows else ledger(budget, detail.rows, detail.parts),
    )


def _figures(report: PredictionReport) -> Iterator[Figure]:
    if report.diagram is None:
        return
    caption = (
        f"A plain stack of {report.diagram.activation} loses gradient in the ordered phase and gains it in the chaotic "
        "one; on the edge between them, drawn as a line, it keeps its size. Dots are layers of weights."
    )
    if not report.plain:
        caption += " This network has more than weights and activations, so the dots alone do not decide what it does."
    yield figure("phases", "Phase diagram", phase_chart(report.diagram, PAGE), caption)
