"""The one picture of a report that stands alone, for slides and papers."""

from __future__ import annotations

from graddoctor.errors import GraddoctorError
from graddoctor.show._axes import Chart
from graddoctor.show.charts import budget_chart
from graddoctor.show.cure import AnyReport, CureReport
from graddoctor.show.cure_charts import budgets_chart, curves_chart
from graddoctor.show.explanation import Explanation
from graddoctor.show.lab import LabReport
from graddoctor.show.lab_charts import lab_picture
from graddoctor.show.names import readable, readable_budget, readable_cure
from graddoctor.show.prediction import PredictionReport
from graddoctor.show.prediction_charts import prediction_chart
from graddoctor.show.report import Report, Waterfall


def picture(report: AnyReport) -> Chart:
    """Draw the budget of a checkup; of a cure both budgets, or its losses; of a prediction the phase diagram too.

    Of the lab it is the first chart of the only experiment.

    Raises
    ------
    GraddoctorError
        When the report holds none of them.
    """
    chart = _of(report)
    if chart is None:
        what = "one chart" if isinstance(report, LabReport) else "budget"
        message = f"there is no {what} to draw in this report of {report.title!r}: save it as .html instead"
        raise GraddoctorError(message)
    return chart


def _of(report: AnyReport) -> Chart | None:
    if isinstance(report, CureReport):
        return _of_cure(readable_cure(report))
    if isinstance(report, PredictionReport):
        return prediction_chart(report.diagram, readable_budget(report.budget, report.classes))
    if isinstance(report, LabReport):
        return lab_picture(report.experiments[0]) if len(report.experiments) == 1 else None
    return None if isinstance(report, Explanation) else _of_checkup(readable(report))


def _of_checkup(report: Report) -> Chart | None:
    return _of_budget(report.budget)


def _of_cure(report: CureReport) -> Chart | None:
    if report.budgets.both is not None:
        return budgets_chart(*report.budgets.both)
    if report.curves is not None and (report.curves.before.steps or report.curves.after.steps):
        return curves_chart(report.curves).properties(width=560)
    return _of_budget(report.budgets.single)


def _of_budget(budget: Waterfall | None) -> Chart | None:
    return budget_chart(budget) if budget is not None and budget.rows else None
