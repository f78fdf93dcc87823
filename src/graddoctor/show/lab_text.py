"""The terminal's face of the lab: each claim, what was measured, and the verdict; of many, one line each."""

from __future__ import annotations

from graddoctor.show import lab_words as told
from graddoctor.show._terminal import QUIET, Page
from graddoctor.show.lab import LabReport, Tried

FULL = 3
"""Up to so many experiments are told in full."""

_COLUMNS = 7  # numbers that a row of means has room for
_STYLES = {
    "reproduced": "bold green",
    "only under these conditions": "bold yellow",
    "not reproduced": "bold red",
    "inconclusive": "bold magenta",
}
_OUTCOMES = {"holds": "green", "fails": "red", "open": "magenta"}


def lay_out(page: Page, report: LabReport) -> None:
    """Lay experiments out."""
    if len(report.experiments) > FULL:
        _summary(page, report)
    else:
        for place, one in enumerate(report.experiments):
            if place:
                page.gap()
            _experiment(page, one)
    if report.missing:
        page.gap()
        page.say((f"Not finished: {', '.join(report.missing)}.", "bold yellow"))
    if report.quick:
        page.gap()
        page.say(("A quick look: fewer settings and fewer seeds than without --quick.", QUIET))


def _summary(page: Page, report: LabReport) -> None:
    page.say((report.verdict.upper(), "bold green" if report.verdict == "as expected" else "bold red"), "  ")
    page.say(report.headline)
    page.gap()
    rows: list[tuple[str | tuple[str, str], ...]] = [
        (one.name, (told.verdict(one), _STYLES[one.verdict]), one.claim) for one in report.experiments
    ]
    page.table(("experiment", "verdict", "claim"), rows, numbers=())
    page.gap()
    page.say(("In full: graddoctor lab NAME, or --out lab.html", QUIET))


def _experiment(page: Page, one: Tried) -> None:
    page.say((one.verdict.upper(), _STYLES[one.verdict]), f"  {one.title}")
    if not one.as_foreseen:
        page.say((f"The authors of graddoctor found: {one.foreseen}.", "bold yellow"))
    page.gap()
    for name, text in told.parts(one):
        page.hanging(f"  {name:<9}", text)
    if one.failed:
        page.gap()
        page.say((f"The experiment failed: {one.failed}", "bold red"))
        return
    page.gap()
    page.say(("Measured", "bold"), f"  {told.effort(one)}")
    for answer in one.answers:
        page.hanging(f"   {answer.outcome:<6}", told.says(answer), head_style=_OUTCOMES[answer.outcome])
        numbers = f"mean {told.mean(answer)}, 95 % interval {told.interval(answer)}; wanted: {told.bound(answer)}"
        page.hanging("         ", numbers, QUIET)
    for chart in one.charts:
        page.gap()
        page.say((chart.y_title, "bold"), "  mean over the seeds")
        head, rows = told.table(chart, _COLUMNS)
        page.table(head, rows, numbers=range(1, len(head)))
    page.gap()
    page.say(("Take home  ", "bold"), one.lesson)
