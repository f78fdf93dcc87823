"""A report in a notebook: a fragment of HTML that needs no script, so that it also shows on pages that allow none."""

from __future__ import annotations

from collections.abc import Collection

from markupsafe import Markup

from graddoctor.show import words
from graddoctor.show._templates import template
from graddoctor.show.markdown import to_markdown
from graddoctor.show.names import readable
from graddoctor.show.palette import DARK, LIGHT
from graddoctor.show.report import Report
from graddoctor.show.text import to_text
from graddoctor.show.thin import fold

ROWS = 60
"""Budget rows in a notebook; smaller ones beyond are folded together."""


def notebook_html(report: Report) -> str:
    """Give a report as a piece of HTML to stand within another page."""
    report = readable(report)
    rows = () if report.budget is None else fold(report.budget.rows, ROWS)[::-1]
    return template("notebook.html.j2").render(
        report=report,
        words=words,
        rows=rows,
        widest=max((abs(row.decades) for row in rows if row.decades is not None), default=0.0) or 1.0,
        light=Markup(LIGHT.css()),  # noqa: S704 - our own colours
        dark=Markup(DARK.css()),  # noqa: S704 - our own colours
    )


def mimebundle(
    report: Report, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """Give a report in the forms that a notebook can choose from, as ``_repr_mimebundle_`` does."""
    faces = {"text/plain": to_text, "text/markdown": to_markdown, "text/html": notebook_html}
    return {
        kind: face(report)
        for kind, face in faces.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }
