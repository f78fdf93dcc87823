"""How explanations are told: their Markdown, with links that lead somewhere, or without."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from graddoctor.show.explanation import Explanation, Level, Subject

LEVELS: tuple[tuple[Level, str], ...] = (("student", "In short"), ("engineer", "In depth"))

_LINK = re.compile(r"`[^`]*`|(?<![\\\w])\[([^\]]*)\]\(([^)\s]*)\)")
_TOPIC = re.compile(r"(?:conditions|causes|remedies)?(?:\.md)?#([\w-]+)")


def values(report: Explanation) -> dict[str, Any]:
    """What the templates of an explanation need."""
    here = {subject.name for subject in report.subjects}
    return {
        "report": report,
        "told": sys.modules[__name__],
        "prose": functools.partial(marked_up, here=here.__contains__),
        "alone": len(report.subjects) == 1 and report.verdict == "explained",
    }


def levels(subject: Subject) -> list[tuple[Level, str]]:
    """The levels of which a subject has something to tell, with what each is called."""
    return [(level, name) for level, name in LEVELS if subject.at(level)]


def unlinked(text: str) -> str:
    """Keep what links say, and drop where they lead to."""
    return _LINK.sub(lambda link: link[0] if link[1] is None else link[1], text)


def linked(text: str, here: Callable[[str], bool]) -> str:
    """Let links to topics lead to where they stand on the same page; what is not ``here`` is no link."""

    def lead(link: re.Match[str]) -> str:
        if link[1] is None:  # code
            return link[0]
        topic = _TOPIC.fullmatch(link[2])
        anchor = topic[1].replace("_", "-") if topic else ""
        return f"[{link[1]}](#{anchor})" if anchor and here(anchor) else link[1]

    return _LINK.sub(lead, text)


def marked_up(text: str, here: Callable[[str], bool] = lambda _: False) -> Markup:
    """Turn Markdown into HTML; HTML within it stays text."""
    return Markup(_markdown().render(linked(text, here)))  # noqa: S704 - the renderer escapes all HTML


def inline(text: str) -> Markup:
    """Turn one line of Markdown into HTML."""
    return Markup(_markdown().renderInline(unlinked(text)))  # noqa: S704 - as above


@functools.cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")
