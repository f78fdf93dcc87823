"""A report as GitHub-flavoured Markdown: for issues, pull requests and job summaries."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import checkup_markdown, cure_markdown, explanation_markdown, lab_markdown, prediction_markdown
from graddoctor.show.cure import AnyReport, CureReport
from graddoctor.show.explanation import Explanation
from graddoctor.show.lab import LabReport
from graddoctor.show.prediction import PredictionReport


def to_markdown(report: AnyReport) -> str:
    """Give a report as Markdown; names of modules cannot break out of it."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: AnyReport) -> Iterator[str]:
    if isinstance(report, CureReport):
        return cure_markdown.blocks(report)
    if isinstance(report, PredictionReport):
        return prediction_markdown.blocks(report)
    if isinstance(report, LabReport):
        return lab_markdown.blocks(report)
    if isinstance(report, Explanation):
        return explanation_markdown.blocks(report)
    return checkup_markdown.blocks(report)
