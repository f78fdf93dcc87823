"""What can be explained, as a list."""

from __future__ import annotations

import json
from collections.abc import Iterator

from graddoctor.show.explanation import EXPLANATION_SCHEMA
from graddoctor.terms import Cause
from graddoctor.topics import every, of
from graddoctor.topics.topic import Kind

HEADINGS: dict[Kind, str] = {
    "condition": "Conditions: what is wrong with a training",
    "cause": "Causes: what is to be changed",
}
"""Of the lists of topics, here and on the page."""

_HOW = """\
graddoctor explain TOPIC explains one of them: graddoctor explain vanishing
graddoctor explain checkup.json explains what a check has found, with its numbers.
graddoctor explain --open builds a page with pictures, from the first principle to the cures."""


def listing() -> str:
    """Names and titles, and how to go on."""
    return "\n".join(_lines())


def listing_json() -> str:
    """The list as one JSON object."""
    told = [{"name": one.name, "kind": one.kind, "title": one.title, "sentence": one.sentence} for one in every()]
    return json.dumps({"schema": EXPLANATION_SCHEMA, "topics": told}, ensure_ascii=False)


def _lines() -> Iterator[str]:
    widest = max(len(one.name) for one in every() if one.kind != "remedy")
    for kind, heading in HEADINGS.items():
        yield f"{heading}\n"
        yield from (f"  {one.name:<{widest}}  {one.title}" for one in of(kind))
        yield ""
    yield "Remedies: what fix can change, by cause\n"
    for cause in Cause:
        if names := [one.name for one in of("remedy", cause)]:
            yield f"  {cause.value.replace('_', '-')}"
            yield from (f"    {name}" for name in names)
    yield f"\n{_HOW}"
