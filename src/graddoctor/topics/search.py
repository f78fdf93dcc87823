"""Finding a topic: by its name, by the name that a report gives a remedy, by a word of it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from graddoctor.errors import GraddoctorError, nearest
from graddoctor.terms import Cause, Condition
from graddoctor.topics.topic import Kind, Topic, Variant, every, slug, unmarked

_LIST = "graddoctor explain lists them"
_PLURAL = re.compile(r"(?<=connection)s\b|(?<=layer)s\b")  # there may be one only
_REMARK = re.compile(r" \(.*\)$")  # such as the usual rate
_FEW = 8  # topics that an error names


def about(term: Condition | Cause) -> Topic:
    """The topic of a condition or a cause."""
    kind = "condition" if isinstance(term, Condition) else "cause"
    return next(topic for topic in every() if topic.kind == kind and topic.term is term)


def of(kind: Kind, cause: Cause | None = None) -> list[Topic]:
    """The topics of a kind; of remedies those against one cause, if it is given."""
    return [topic for topic in every() if topic.kind == kind and cause in {None, topic.term}]


def find(name: str) -> Topic:
    """Return the topic of a name, however it is spelt.

    Raises
    ------
    GraddoctorError
        There is none, or several have the word; the message names those that are near.
    """
    wanted = slug(name.replace("_", "-"))
    for topic in every():
        if wanted in {topic.name, slug(unmarked(topic.title))}:
            return topic
    if (remedy := recognised(name)) is not None:
        return remedy.topic
    holding = [topic for topic in every() if wanted and _holds(topic, wanted)]
    if len(holding) == 1:
        return holding[0]
    if holding:
        some = ", ".join(topic.name for topic in holding[:_FEW])
        more = f" and {len(holding) - _FEW} more" if len(holding) > _FEW else ""
        raise GraddoctorError(f"{name!r} can mean {some}{more}: name one of them")
    raise GraddoctorError(f"there is no topic {name!r}: {nearest(wanted, [topic.name for topic in every()], _LIST)}")


@dataclass(frozen=True)
class Recognised:
    """The remedy that a name of a report means, what it costs in this form, and where the literature has it."""

    topic: Topic
    costs: str
    source: str


def recognised(name: str) -> Recognised | None:
    """Return the remedy that a report calls by this name, its variable parts filled in; None where it is none."""
    for pattern, remedy in _patterns():
        if pattern.fullmatch(name.strip()):
            return remedy
    return None


def _holds(topic: Topic, wanted: str) -> bool:
    names = [topic.title, *(variant.name for variant in topic.variants)]
    words = slug(unmarked(" ".join(names))).split("-")
    return all(part in words for part in wanted.split("-"))


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], Recognised]]:
    """What names of remedies look like, the most literal first."""
    found: list[tuple[int, re.Pattern[str], Recognised]] = []
    for topic in of("remedy"):
        general = Variant(topic.title, topic.part("Costs"), topic.part("Source"))
        for form in (general, *topic.variants):
            name = form.name if form is general else _REMARK.sub("", form.name)
            literal = [re.escape(piece.replace("`", "")) for piece in re.split(r"\*[^*]+\*", name)]
            pattern = re.compile(_PLURAL.sub("s?", r".+?".join(literal)), re.IGNORECASE)
            found.append((sum(map(len, literal)), pattern, Recognised(topic, form.costs, form.source)))
    return [(pattern, remedy) for _, pattern, remedy in sorted(found, key=lambda one: -one[0])]
