"""Pieces of Markdown that nothing put into them can break out of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def plain(text: str) -> str:
    """Text that stays text: on one line, with nothing in it that Markdown or HTML would act on."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def pairs(environment: Mapping[str, str]) -> str:
    """Names and values in a line."""
    return " · ".join(f"{plain(key)} {plain(value)}" for key, value in environment.items())


def codes(names: Sequence[str], limit: int = 6) -> str:
    """Code spans of the first few names, and how many there are beyond."""
    shown = ", ".join(code(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def code(name: str) -> str:
    """A code span whose fence is longer than any run of backticks in it."""
    name = " ".join(name.split()) or "(the model itself)"
    fence = "`" * (max(map(len, re.findall(r"`+", name)), default=0) + 1)
    pad = " " if "`" in name else ""
    return f"{fence}{pad}{name}{pad}{fence}"


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, max(map(len, re.findall(r"`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of plain text; the columns ``numbers`` stand to the right."""
    marks = ["---:" if place in numbers else "---" for place in range(len(columns))]
    lines = [columns, marks, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
