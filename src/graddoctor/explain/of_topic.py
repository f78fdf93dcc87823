"""A topic, explained."""

from __future__ import annotations

from graddoctor.show.explanation import Explanation, Level, Passage, Subject
from graddoctor.topics import Topic, find

_PLAIN = {
    "What it is",
    "What undoes it",
    "What does not",
    "How it is told apart",
    "What to do",
    "Remedies",
    "What it does",
    "Variants",
    "Costs",
}
"""Labels of what a student reads; the others are for engineers."""


def topic(name: str, level: Level | None = None) -> Explanation:
    """Explain a condition, a cause or a remedy.

    Parameters
    ----------
    name
        Its name as it stands in a report, on the command line, or one word of it.
    level
        ``"student"`` or ``"engineer"``; both if left out.

    Raises
    ------
    GraddoctorError
        There is no such topic, or there are several.
    """
    found = find(name)
    return Explanation(found.name, "explained", found.sentence, (subject(found, level),))


def subject(found: Topic, level: Level | None = None) -> Subject:
    """Tell what is known of a topic."""
    every = (Passage(label, text, level_of(label)) for label, text in found.parts)
    passages = tuple(one for one in every if level in {None, one.level})
    if found.kind == "remedy":
        against = f"[{found.term.title}](#{found.term.value})"
        passages = (Passage("Against", against, level or "student"), *passages)
    sentence = "" if found.kind == "remedy" else found.sentence
    return Subject(found.name, found.kind, found.title, sentence, passages)


def level_of(label: str) -> Level:
    """For whom the part of a topic is that has this label."""
    return "student" if label in _PLAIN else "engineer"
