"""A topic, and how it is read from the pages of this folder, which the documentation shows too."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from graddoctor.terms import Cause, Condition

Kind = Literal["condition", "cause", "remedy"]

_LABEL = re.compile(r"^\*\*(?:\[)?([A-Z][\w ]*?)(?:\]\([^)]*\))?\.\*\* ", re.MULTILINE)
_ITEM = re.compile(r"^- \*(\w+)\* (.*?)(?=^- \*|^\||\Z)", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\|.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```\n?", re.MULTILINE | re.DOTALL)
_HEADINGS = {"condition": re.compile(r"^## ", re.MULTILINE), "remedy": re.compile(r"^###? ", re.MULTILINE)}


@dataclass(frozen=True)
class Variant:
    """A form that a remedy comes in: its name in Markdown, what it costs, and where the literature has it."""

    name: str
    costs: str
    source: str


@dataclass(frozen=True)
class Topic:
    """A condition, a cause or a remedy, explained.

    Attributes
    ----------
    kind
        What it is.
    name
        What it is called on the command line, and in a link: ``"vanishing"``, ``"clipped-at-norm-x"``.
    title
        What a reader calls it; of a remedy in Markdown, its variable parts in italics.
    sentence
        What it is, in one sentence.
    parts
        Labels and paragraphs, in Markdown.
    term
        The condition or cause; of a remedy the cause that it is to undo.
    variants
        The forms that it comes in, where these are told in a table.
    """

    kind: Kind
    name: str
    title: str
    sentence: str
    parts: tuple[tuple[str, str], ...]
    term: Condition | Cause
    variants: tuple[Variant, ...] = ()

    def part(self, label: str) -> str:
        """The paragraph of a label; empty where there is none."""
        return dict(self.parts).get(label, "")


@functools.cache
def every() -> tuple[Topic, ...]:
    """All topics, in the order of the pages: conditions, causes, remedies."""
    conditions = (_term("condition", Condition[name], text) for name, text in _sections("conditions.md", "condition"))
    causes = (_term("cause", Cause[name], text) for name, text in _sections("causes.md", "condition"))
    return (*conditions, *causes, *_remedies())


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")


def unmarked(text: str) -> str:
    """Text without links, emphasis, code marks and escapes: what a heading says."""
    plain = re.sub(r"(?<!\\)[*`]", "", re.sub(r"(?<!\\)\[([^\]]*)\]\([^)]*\)", r"\1", text))
    return re.sub(r"\\([^A-Za-z0-9\s])", r"\1", plain)


def _sections(page: str, kind: Literal["condition", "remedy"]) -> Iterator[tuple[str, str]]:
    """Headings of a page and what stands below each; those of terms without their code marks."""
    whole = resources.files("graddoctor.topics").joinpath(page).read_text(encoding="utf-8")
    for section in _HEADINGS[kind].split(_FENCED.sub("", whole))[1:]:
        heading, _, text = section.partition("\n")
        if heading.startswith("`") or kind == "remedy":
            yield heading if kind == "remedy" else heading.strip("`"), text.strip()


def _term(kind: Kind, term: Condition | Cause, text: str) -> Topic:
    labels = [*_LABEL.finditer(text)]
    ends = [label.start() for label in labels[1:]] + [len(text)]
    parts = tuple((label[1], text[label.end() : end].strip()) for label, end in zip(labels, ends, strict=True))
    return Topic(kind, term.value.replace("_", "-"), term.title, term.sentence, parts, term)


def _remedies() -> Iterator[Topic]:
    cause: Cause | None = None
    for heading, text in _sections("remedies.md", "remedy"):
        if heading.startswith("`"):
            cause = Cause[heading.strip("`")]
        elif "- *code*" in text and cause is not None:
            yield _remedy(cause, heading, text)


def _remedy(cause: Cause, heading: str, text: str) -> Topic:
    table = _TABLE.search(text)
    items = [(label, " ".join(told.split())) for label, told in _ITEM.findall(text)]
    begin = re.split(r"^- \*|^\|", text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    parts = [("What it does", begin), *((label.capitalize(), told) for label, told in items)]
    if table is not None:
        parts.insert(1, ("Variants", table[0]))
    rows = [] if table is None else [map(str.strip, row.strip("| ").split("|")) for row in table[0].splitlines()[2:]]
    sentence = re.split(r"(?<=[.:;])\s", unmarked(begin), maxsplit=1)[0].rstrip(":;") if begin else ""
    return Topic(
        "remedy",
        slug(heading),
        heading,
        " ".join(sentence.split()),
        tuple(parts),
        cause,
        tuple(Variant(*row) for row in rows),
    )
