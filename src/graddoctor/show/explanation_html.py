"""The page of an explanation."""

from __future__ import annotations

from graddoctor.show._page import Detail, rendered
from graddoctor.show.explanation import Explanation
from graddoctor.show.explanation_words import values


def page(report: Explanation, detail: Detail) -> str:  # noqa: ARG001 - there is nothing to leave out
    """Give an explanation as a page."""
    return rendered("explanation.html.j2", [], **values(report))
