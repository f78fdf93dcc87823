"""The terminal's face of a prediction."""

from __future__ import annotations

from graddoctor.show import prediction_words as told
from graddoctor.show._terminal import QUIET, Page
from graddoctor.show.checkup_text import budget
from graddoctor.show.names import readable_budget
from graddoctor.show.prediction import PredictionReport

_STYLES = {"steady": "bold green", "vanishing": "bold red", "exploding": "bold red"}
_HEAD = 11  # columns of a figure's name


def lay_out(page: Page, report: PredictionReport) -> None:
    """Lay a prediction out."""
    page.say((report.verdict.upper(), _STYLES[report.verdict]), f"  {report.title}: ", report.headline)
    page.gap()
    for name, value in told.figures(report):
        page.hanging(f"  {name:<{_HEAD - 2}}", value)
    if report.recurrent:
        page.gap()
        page.say(("Through time", "bold"))
    for one in report.recurrent:
        page.hanging("   - ", told.lag(one))
    if report.unknown:
        page.gap()
        page.say((told.unknown(report), QUIET))
    waterfall = readable_budget(report.budget, report.classes)
    if waterfall is not None and waterfall.rows:
        page.gap()
        budget(page, waterfall)
