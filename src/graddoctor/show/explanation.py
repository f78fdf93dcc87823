"""An explanation, ready to be shown: topics, or somebody's own findings, as plain data that survives JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graddoctor.show.faces import Faces

EXPLANATION_SCHEMA = 1
"""Version of the JSON form; raised when a field changes its meaning or goes away, not when one is added."""

Level = Literal["student", "engineer"]


@dataclass(frozen=True)
class Passage:
    """A paragraph or more of Markdown under a label, and for whom it is."""

    label: str
    text: str
    level: Level


@dataclass(frozen=True)
class Subject:
    """One thing that is explained.

    Attributes
    ----------
    name
        The topic it belongs to; empty where it is none.
    kind
        What it is: ``"condition"``, ``"cause"``, ``"remedy"``, ``"finding"``, ``"note"`` or ``"network"``.
    title, sentence
        What it is called, in Markdown, and what it is in one sentence.
    passages
        What is told of it.
    severity
        Of a finding.
    """

    name: str
    kind: str
    title: str
    sentence: str
    passages: tuple[Passage, ...] = ()
    severity: str = ""

    def at(self, level: Level) -> tuple[Passage, ...]:
        """The passages of a level."""
        return tuple(one for one in self.passages if one.level == level)


@dataclass(frozen=True)
class Explanation(Faces):
    """What is explained, with every face of a report.

    Attributes
    ----------
    title
        What it is about: a topic, or what was examined.
    verdict
        ``"explained"``; of a report, the verdict that it came to.
    headline
        It in one sentence.
    subjects
        One for each topic or finding.
    """

    title: str
    verdict: str
    headline: str
    subjects: tuple[Subject, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["explanation"] = "explanation"
    schema: int = EXPLANATION_SCHEMA

    def report(self) -> Explanation:
        """Return itself."""
        return self
