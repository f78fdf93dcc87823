"""A prediction as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import prediction_words as told
from graddoctor.show._marks import pairs, plain
from graddoctor.show.checkup_markdown import budget
from graddoctor.show.names import readable_budget
from graddoctor.show.prediction import PredictionReport


def blocks(report: PredictionReport) -> Iterator[str]:
    """Give the blocks of a prediction, its verdict first."""
    yield f"# {report.verdict.capitalize()}: {plain(report.title)}"
    yield f"**{plain(report.headline)}**"
    yield "\n".join(f"- {name}: {plain(value)}" for name, value in told.figures(report))
    if report.recurrent:
        yield "## Through time"
        yield "\n".join(f"- {plain(told.lag(one))}" for one in report.recurrent)
    if report.unknown:
        yield plain(told.unknown(report))
    waterfall = readable_budget(report.budget, report.classes)
    if waterfall is not None and waterfall.rows:
        yield from budget(waterfall)
    if report.environment:
        yield pairs(report.environment)
