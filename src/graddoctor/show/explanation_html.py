"""The page of an explanation, and its piece of a notebook."""

from __future__ import annotations

import functools
from typing import Any

from graddoctor.show import explanation_words as told
from graddoctor.show._page import Detail, rendered
from graddoctor.show.explanation import Explanation


def page(report: Explanation, detail: Detail) -> str:  # noqa: ARG001 - there is nothing to leave out
    """Give an explanation as a page."""
    return rendered("explanation.html.j2", [], **values(report))


def values(report: Explanation) -> dict[str, Any]:
    """What templates need."""
    here = {subject.name for subject in report.subjects}
    return {
        "report": report,
        "told": told,
        "prose": functools.partial(told.marked_up, here=here.__contains__),
        "alone": len(report.subjects) == 1 and report.verdict == "explained",
    }
