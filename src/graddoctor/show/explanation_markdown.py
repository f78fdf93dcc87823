"""An explanation as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import explanation_words as told
from graddoctor.show._marks import pairs, plain
from graddoctor.show.explanation import Explanation, Subject


def blocks(report: Explanation) -> Iterator[str]:
    """Give the blocks of an explanation."""
    if len(report.subjects) > 1 or report.verdict != "explained":
        yield f"# {plain(report.verdict.capitalize())}: {plain(report.title)}"
        yield f"**{plain(report.headline)}**"
    for subject in report.subjects:
        yield from _subject(subject)
    if report.environment:
        yield pairs(report.environment)


def _subject(subject: Subject) -> Iterator[str]:
    beside = subject.severity or subject.kind
    yield f"## {subject.title} ({beside})"
    if subject.sentence:
        yield f"> {plain(subject.sentence)}"
    for level, name in told.levels(subject):
        yield f"### {name}"
        for passage in subject.at(level):
            yield (
                f"**{passage.label}.** {told.unlinked(passage.text)}"
                if _is_prose(passage.text)
                else (f"**{passage.label}.**\n\n{told.unlinked(passage.text)}")
            )


def _is_prose(text: str) -> bool:
    return not text.startswith(("|", "-", "`" * 3))
