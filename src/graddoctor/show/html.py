"""The page: one HTML file that needs no network, readable in light and dark, on paper, on phones, without scripts."""

from __future__ import annotations

from graddoctor.show import checkup_html, cure_html, explanation_html, lab_html, prediction_html
from graddoctor.show._page import DETAILS, Detail
from graddoctor.show.cure import AnyReport, CureReport
from graddoctor.show.explanation import Explanation
from graddoctor.show.lab import LabReport
from graddoctor.show.prediction import PredictionReport

LIMIT = 1_450_000
"""Bytes that a page may have; a larger report is shown in less detail."""


def to_html(report: AnyReport) -> str:
    """Give a report as one self-contained page of less than 1.5 MB."""
    page = ""
    for detail in DETAILS:
        page = _page(report, detail)
        if len(page.encode()) < LIMIT:
            break
    return page


def _page(report: AnyReport, detail: Detail) -> str:
    if isinstance(report, CureReport):
        return cure_html.page(report, detail)
    if isinstance(report, PredictionReport):
        return prediction_html.page(report, detail)
    if isinstance(report, LabReport):
        return lab_html.page(report, detail)
    if isinstance(report, Explanation):
        return explanation_html.page(report, detail)
    return checkup_html.page(report, detail)
