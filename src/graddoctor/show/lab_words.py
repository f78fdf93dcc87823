"""How experiments are told: one place for sentences and numbers, so that all faces agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from graddoctor.show import words
from graddoctor.show.lab import Answer, LabChart, Tried
from graddoctor.show.thin import pick

ORDER = ("reproduced", "only under these conditions", "not reproduced", "inconclusive")


def verdict(one: Tried) -> str:
    """The verdict, and whether it was foreseen."""
    return one.verdict if one.as_foreseen else f"{one.verdict} (foreseen: {one.foreseen})"


def counts(experiments: Sequence[Tried]) -> list[tuple[str, int]]:
    """How many experiments had which verdict."""
    found = Counter[str](one.verdict for one in experiments)
    return [(kind, found[kind]) for kind in ORDER if found[kind]]


def parts(one: Tried) -> Iterator[tuple[str, str]]:
    """Names and texts of what is said of an experiment before its outcome."""
    yield "claim", one.claim
    yield "source", one.source
    yield "expected", one.expected
    yield "here", one.scaled


def mean(answer: Answer) -> str:
    """The mean effect."""
    return words.figure(_rounded(answer.mean))


def interval(answer: Answer) -> str:
    """Its 95 % interval."""
    return f"{words.figure(_rounded(answer.low))} to {words.figure(_rounded(answer.high))}"


def bound(answer: Answer) -> str:
    """What it has to clear."""
    unit = f" {answer.unit}" if answer.unit else ""
    return f"{'above' if answer.above else 'below'} {words.figure(answer.bound)}{unit}"


def says(answer: Answer) -> str:
    """The assertion; a control is named as one."""
    return f"Control: {answer.says}" if answer.control else answer.says


def effort(one: Tried) -> str:
    """What it took."""
    runs = words.number(one.runs, "run")
    return f"{words.number(one.seeds, 'seed')} each, {runs}, {words.duration(one.seconds)} of computing"


def table(chart: LabChart, columns: int) -> tuple[list[str], list[list[str]]]:
    """Means of a chart as a table: a row for each line, a column for each place, or for so many of them."""
    places = sorted({(mark.x, mark.x_name) for mark in chart.marks})
    places = [places[i] for i in pick(len(places), columns)]
    lines = list(dict.fromkeys((mark.panel, mark.by) for mark in chart.marks))
    found = {(mark.panel, mark.by, mark.x): mark.y for mark in chart.marks}
    head = [chart.x_title, *(name or words.figure(x) for x, name in places)]
    rows = [
        [
            ", ".join(filter(None, (panel, by))) or chart.y_title,
            *(words.figure(_rounded(found[panel, by, x])) if (panel, by, x) in found else "" for x, _ in places),
        ]
        for panel, by in lines
    ]
    return head, rows


def _rounded(value: float) -> float:
    """Three digits: what several seeds can tell."""
    return float(f"{value:.3g}") if math.isfinite(value) else value
