"""The terminal's face of a report: the verdict in the first line, then why."""

from __future__ import annotations

import io
from typing import IO

from rich.console import Console

from graddoctor.show import checkup_text, cure_text, explanation_text, lab_text, prediction_text
from graddoctor.show._terminal import Page
from graddoctor.show.cure import AnyReport, CureReport
from graddoctor.show.explanation import Explanation
from graddoctor.show.lab import LabReport
from graddoctor.show.prediction import PredictionReport


def print_report(report: AnyReport, *, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print a report to a terminal or a pipe.

    Colours and block characters appear on a terminal only; ``NO_COLOR`` is honoured. Into a pipe goes plain text.

    Parameters
    ----------
    file
        Where to; standard output if left out.
    width
        Columns; the terminal's if left out, 100 in a pipe.
    """
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if width is None and not console.is_terminal:
        console.width = 100
    plain = not console.is_terminal or not console.encoding.lower().startswith("utf")
    _lay_out(Page(console, plain=plain), report)


def to_text(report: AnyReport, *, width: int = 100) -> str:
    """Give a report as plain text without colours."""
    with io.StringIO() as file:
        console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, color_system=None)
        _lay_out(Page(console, plain=True), report)
        return file.getvalue()


def _lay_out(page: Page, report: AnyReport) -> None:
    if isinstance(report, CureReport):
        cure_text.lay_out(page, report)
    elif isinstance(report, PredictionReport):
        prediction_text.lay_out(page, report)
    elif isinstance(report, LabReport):
        lab_text.lay_out(page, report)
    elif isinstance(report, Explanation):
        explanation_text.lay_out(page, report)
    else:
        checkup_text.lay_out(page, report)
