"""A checkup as blocks of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from graddoctor.show import attention as table
from graddoctor.show import words
from graddoctor.show._marks import codes, pairs, plain
from graddoctor.show.names import readable
from graddoctor.show.report import Report, Waterfall
from graddoctor.show.thin import fold
from graddoctor.terms import Finding

ROWS = 40
"""Budget rows in a table; smaller ones beyond are folded together."""


def blocks(report: Report) -> Iterator[str]:
    """Give the blocks of a checkup, its verdict first."""
    report = readable(report)
    yield f"# {report.verdict.capitalize()}: {plain(report.title)}"
    yield f"**{plain(report.headline)}**"
    yield f"{plain(words.coverage(report.coverage))}."
    yield from findings(report)
    if report.ruled_out:
        yield "## Ruled out"
        yield "\n".join(f"- {plain(words.begun(sentence))}" for sentence in report.ruled_out)
    if report.notes:
        yield "## Also noticed"
        yield "\n".join(f"- {plain(words.note(note))}" for note in report.notes)
    if report.budget is not None and report.budget.rows:
        yield from budget(report.budget)
    if report.through_time:
        yield "## Through time"
        yield "\n".join(f"- {plain(words.through_time(one))}" for one in report.through_time)
    if report.attention:
        yield from attention(report)
    if report.losses is not None and report.losses.steps:
        yield "## Loss"
        yield plain(words.loss(report.losses))
    if report.events:
        yield "\n".join(f"- step {event.step}: {plain(event.text)}" for event in report.events)
    if report.environment:
        yield pairs(report.environment)


def findings(report: Report) -> Iterator[str]:
    """Give the findings of a checkup, a heading each."""
    for place, finding in enumerate(report.findings, start=1):
        yield from _finding(place, finding)
    if topics := words.topics_of(report):
        yield f"What this is: {codes([f'graddoctor explain {topic.name}' for topic in topics], 3)}"


def budget(waterfall: Waterfall) -> Iterator[str]:
    """Give a budget as a sentence and a table."""
    yield "## Gradient budget"
    yield plain(words.budget(waterfall))
    if waterfall.losses:
        yield plain(words.losses(waterfall))
    yield _table(waterfall)


def attention(report: Report) -> Iterator[str]:
    """Give what each attention does as a sentence and a table."""
    yield "## Attention"
    yield table.CAPTION
    headings = [column.heading for column in table.COLUMNS]
    lines = ["| " + " | ".join(["attention", *headings]) + " |", "| --- |" + " ---: |" * len(headings)]
    lines += ["| " + " | ".join([plain(one.name), *table.cells(one)]) + " |" for one in table.shown(report.attention)]
    yield "\n".join(lines)


def _finding(place: int, finding: Finding) -> Iterator[str]:
    told = ", ".join(filter(None, (finding.severity.name.lower(), words.confirmation(finding))))
    yield f"## {place}. {words.title(finding.condition)} ({told})"
    if finding.summary:
        yield plain(finding.summary)
    if figures := finding.detail or words.numbers(finding.numbers):
        yield plain(figures)
    if finding.modules:
        yield f"Where: {codes(finding.modules)}"
    lines = []
    for blame in finding.causes:
        parts = [f"- **{words.cause(blame)}**"]
        if blame.modules:
            parts.append(f"in {codes(blame.modules)}")
        if blame.sentence:
            parts.append(plain(blame.sentence))
        if blame.remedies:
            parts.append(f"Try {codes(blame.remedies)}.")
        lines.append(" ".join(parts))
    lines += [f"- {plain(words.trial(trial))}" for trial in finding.trials]
    if lines:
        yield "\n".join(lines)
    if finding.consequences:
        yield words.consequences(finding)


def _table(waterfall: Waterfall) -> str:
    rows = fold(waterfall.rows, ROWS)[::-1]
    foreseen = waterfall.predicted_total is not None
    more, rule = (" theory |", " ---: |") if foreseen else ("", "")
    lines = [f"| from the loss to the input | kind | decades |{more} signal |", f"| --- | --- | ---: |{rule} ---: |"]
    for row in rows:
        value, signal = words.row_value(row, waterfall), words.signed(row.signal_decades)
        theory = f" {words.signed(row.predicted_decades)} |" if foreseen else ""
        lines.append(f"| {plain(row.name)} | {plain(row.kind)} | {value} |{theory} {signal} |")
    theory = f" {words.signed(waterfall.predicted_total)} |" if foreseen else ""
    total, signal = words.signed(waterfall.total), words.signed(waterfall.signal_total)
    lines.append(f"| **total** | | **{total}** |{theory} {signal} |")
    return "\n".join(lines)
