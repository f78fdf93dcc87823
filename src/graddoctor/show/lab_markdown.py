"""Experiments as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import lab_words as told
from graddoctor.show import words
from graddoctor.show._marks import pairs, plain, table
from graddoctor.show.lab import LabReport, Tried

_COLUMNS = 12


def blocks(report: LabReport) -> Iterator[str]:
    """Give the blocks of experiments, a table of verdicts first where there are several."""
    if len(report.experiments) > 1:
        yield f"# {report.verdict.capitalize()}"
        yield f"**{plain(report.headline)}**"
        yield table(
            ("experiment", "verdict", "claim"), [(one.name, told.verdict(one), one.claim) for one in report.experiments]
        )
    for one in report.experiments:
        yield from experiment(one)
    if report.missing:
        yield f"Not finished: {', '.join(map(plain, report.missing))}."
    if report.environment:
        yield pairs(report.environment)


def experiment(one: Tried) -> Iterator[str]:
    """Give the blocks of one experiment."""
    yield f"## {plain(one.title)}: {plain(told.verdict(one))}"
    yield "\n".join(f"- *{name}* {plain(text)}" for name, text in told.parts(one))
    if one.failed:
        yield f"The experiment failed: {plain(one.failed)}"
        return
    yield f"{plain(told.effort(one))}:"
    answers = [
        (told.says(answer), answer.outcome, told.mean(answer), told.interval(answer), told.bound(answer))
        for answer in one.answers
    ]
    yield table(("assertion", "outcome", "mean", "95 % interval", "wanted"), answers, numbers=(2, 3))
    for chart in one.charts:
        head, rows = told.table(chart, _COLUMNS)
        yield f"{plain(words.begun(chart.y_title))}, mean over the seeds:"
        yield table([plain(cell) for cell in head], rows, numbers=range(1, len(head)))
    yield f"**Take home** {plain(one.lesson)}"
