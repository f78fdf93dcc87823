"""The terminal's face of an explanation."""

from __future__ import annotations

from rich.markdown import Markdown
from rich.padding import Padding

from graddoctor.show import explanation_words as told
from graddoctor.show._terminal import QUIET, Page
from graddoctor.show.explanation import Explanation, Subject
from graddoctor.topics.topic import unmarked

_WIDEST = 100  # columns that prose is read well in


def lay_out(page: Page, report: Explanation) -> None:
    """Lay an explanation out, subject by subject."""
    if len(report.subjects) > 1 or report.verdict != "explained":
        page.say((report.verdict.upper(), "bold"), f"  {report.title}: {report.headline}")
        page.gap()
    for place, subject in enumerate(report.subjects):
        if place:
            page.gap()
        _subject(page, subject)


def _subject(page: Page, subject: Subject) -> None:
    page.say((unmarked(subject.title), "bold underline"), "  ", (subject.severity or subject.kind, QUIET))
    if subject.sentence:
        page.say((subject.sentence, "italic"))
    shown = told.levels(subject)
    for level, name in shown:
        if len(shown) > 1:
            page.gap()
            page.say((name.upper(), QUIET))
        for passage in subject.at(level):
            page.gap()
            page.say((passage.label, "bold"))
            _prose(page, passage.text)


def _prose(page: Page, text: str) -> None:
    """Print Markdown, a little to the right; into a pipe in plain letters."""
    width = min(page.width, _WIDEST) - 2
    shown = Padding(Markdown(told.unlinked(text), hyperlinks=False), (0, 0, 0, 2))
    options = page.console.options.update(width=width)
    page.print_lines(page.console.render_lines(shown, options, pad=False))
