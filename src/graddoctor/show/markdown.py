"""A report as GitHub-flavoured Markdown: for issues, pull requests and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graddoctor.show import words
from graddoctor.show.names import readable
from graddoctor.show.report import Report, Waterfall
from graddoctor.show.thin import fold
from graddoctor.terms import Finding

ROWS = 40
"""Budget rows in a table; smaller ones beyond are folded together."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def to_markdown(report: Report) -> str:
    """Give a report as Markdown; names of modules cannot break out of it."""
    return "\n\n".join(_blocks(readable(report))) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {report.verdict.capitalize()}: {_plain(report.title)}"
    yield f"**{_plain(report.headline)}**"
    yield f"{_plain(words.coverage(report.coverage))}."
    for place, finding in enumerate(report.findings, start=1):
        yield from _finding(place, finding)
    if report.ruled_out:
        yield "## Ruled out"
        yield "\n".join(f"- {_plain(words.begun(sentence))}" for sentence in report.ruled_out)
    if report.notes:
        yield "## Also noticed"
        yield "\n".join(f"- {_plain(words.note(note))}" for note in report.notes)
    if report.budget is not None and report.budget.rows:
        yield "## Gradient budget"
        yield _plain(words.budget(report.budget))
        if report.budget.losses:
            yield _plain(words.losses(report.budget))
        yield _table(report.budget)
    if report.losses is not None and report.losses.steps:
        yield "## Loss"
        yield _plain(words.loss(report.losses))
    if report.events:
        yield "\n".join(f"- step {event.step}: {_plain(event.text)}" for event in report.events)
    if report.environment:
        yield " · ".join(f"{_plain(key)} {_plain(value)}" for key, value in report.environment.items())


def _finding(place: int, finding: Finding) -> Iterator[str]:
    told = ", ".join(filter(None, (finding.severity.name.lower(), words.confirmation(finding))))
    yield f"## {place}. {words.title(finding.condition)} ({told})"
    if finding.summary:
        yield _plain(finding.summary)
    if figures := finding.detail or words.numbers(finding.numbers):
        yield _plain(figures)
    if finding.modules:
        yield f"Where: {_codes(finding.modules)}"
    lines = []
    for blame in finding.causes:
        parts = [f"- **{words.cause(blame)}**"]
        if blame.modules:
            parts.append(f"in {_codes(blame.modules)}")
        if blame.sentence:
            parts.append(_plain(blame.sentence))
        if blame.remedies:
            parts.append(f"Try {_codes(blame.remedies)}.")
        lines.append(" ".join(parts))
    lines += [f"- {_plain(words.trial(trial))}" for trial in finding.trials]
    if lines:
        yield "\n".join(lines)
    if finding.consequences:
        yield words.consequences(finding)


def _table(waterfall: Waterfall) -> str:
    rows = fold(waterfall.rows, ROWS)[::-1]
    lines = ["| from the loss to the input | kind | decades | signal |", "| --- | --- | ---: | ---: |"]
    for row in rows:
        value, signal = words.row_value(row, waterfall), words.signed(row.signal_decades)
        lines.append(f"| {_plain(row.name)} | {_plain(row.kind)} | {value} | {signal} |")
    lines.append(f"| **total** | | **{words.signed(waterfall.total)}** | {words.signed(waterfall.signal_total)} |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that stays text: on one line, with nothing in it that Markdown or HTML would act on."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _codes(names: tuple[str, ...], limit: int = 6) -> str:
    shown = ", ".join(_code(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _code(name: str) -> str:
    """A code span whose fence is longer than any run of backticks in it."""
    name = " ".join(name.split()) or "(the model itself)"
    fence = "`" * (max(map(len, re.findall(r"`+", name)), default=0) + 1)
    pad = " " if "`" in name else ""
    return f"{fence}{pad}{name}{pad}{fence}"
