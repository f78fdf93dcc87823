"""The terminal's face of a checkup: the verdict in the first line, then why, then where the gradient goes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from graddoctor.show import attention as table
from graddoctor.show import words
from graddoctor.show._terminal import QUIET, Page
from graddoctor.show.names import readable
from graddoctor.show.report import Report, Row, Waterfall
from graddoctor.show.thin import fold
from graddoctor.terms import Blame, Finding, Severity

ROWS = 30
"""Budget rows that a terminal shows; smaller ones beyond are folded together."""

_STYLES = {"healthy": "bold green", "sick": "bold red", "inconclusive": "bold yellow"}
_SEVERITIES = {Severity.CRITICAL: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold blue"}
LOST, GAINED = "red", "cyan"
_NARROW = 72  # columns under which the signal ledger would leave no room for bars


def lay_out(page: Page, report: Report) -> None:
    """Lay a checkup out."""
    report = readable(report)
    page.say((report.verdict.upper(), _STYLES[report.verdict]), f"  {report.title}: ", report.headline)
    page.say((words.coverage(report.coverage), QUIET))
    findings(page, report)
    page.sentences("Ruled out", report.ruled_out)
    page.sentences("Also noticed", [words.note(note) for note in report.notes])
    if report.budget is not None and report.budget.rows:
        page.gap()
        budget(page, report.budget)
    page.sentences("Through time", [words.through_time(one) for one in report.through_time])
    if report.attention:
        page.gap()
        attention(page, report)
    if report.losses is not None and report.losses.steps:
        page.gap()
        page.say(words.loss(report.losses))
    for event in report.events:
        page.say(f"Step {event.step}: {event.text}", indent=2)


def findings(page: Page, report: Report) -> None:
    """Tell the findings of a checkup, one paragraph each."""
    for place, finding in enumerate(report.findings, start=1):
        page.gap()
        _finding(page, place, finding)
    if more := words.explain(report):
        page.gap()
        page.say((more, QUIET))


def _finding(page: Page, place: int, finding: Finding) -> None:
    page.say(
        (f"{place}. {words.title(finding.condition)}", "bold"),
        "  ",
        (finding.severity.name.lower(), _SEVERITIES[finding.severity]),
        (f"  {words.confirmation(finding)}".rstrip(), QUIET),
    )
    if finding.summary:
        page.say(finding.summary, indent=3)
    if finding.detail:
        page.say((finding.detail, QUIET), indent=3)
    elif figures := words.numbers(finding.numbers):
        page.say((figures, QUIET), indent=3)
    if finding.modules:
        page.labelled("where", page.names(finding.modules))
    for rank, blame in enumerate(finding.causes):
        _cause(page, blame, "cause" if rank == 0 else "also")
    for trial in finding.trials:
        page.labelled("tried", words.trial(trial))
    if finding.consequences:
        page.say(words.consequences(finding), indent=3)


def _cause(page: Page, blame: Blame, label: str) -> None:
    where = f" in {page.names(blame.modules, 3)}" if blame.modules else ""
    page.labelled(label, f"{words.cause(blame)}{where}")
    if blame.sentence:
        page.say(blame.sentence, indent=11)
    if blame.remedies:
        page.say((f"try {', '.join(blame.remedies)}", "green"), indent=11)


def attention(page: Page, report: Report) -> None:
    """Tell what each attention does: as many of its figures as there is room for."""
    layers = table.shown(report.attention, ROWS)
    names = [page.clean(name) for name in words.fitted([layer.name for layer in layers], max(page.width // 3, 16))]
    width = max(map(len, names))
    rows = [[page.clean(cell) for cell in table.cells(layer)] for layer in layers]
    headings = [column.heading for column in table.COLUMNS]
    lines = [f"  {name:<{width}}" for name in ("", *names)]
    for column, heading in enumerate(headings):
        texts = [heading, *(row[column] for row in rows)]
        room = max(map(len, texts))
        if len(lines[0]) + room + 2 > page.width:
            break
        lines = [f"{line}  {text:>{room}}" for line, text in zip(lines, texts, strict=True)]
    page.say(("Attention", "bold"), "  from the start of the training to its end")
    for place, line in enumerate(lines):
        page.console.print(Text(line, QUIET if place == 0 else ""), soft_wrap=True)


def budget(page: Page, waterfall: Waterfall) -> None:
    """Tell a budget, a bar for each row."""
    page.say(("Gradient budget", "bold"), "  decades gained (+) or lost (-), from the loss back to the input")
    page.say(words.budget(waterfall))
    if waterfall.losses:
        page.say(words.losses(waterfall))
    with_signal = page.width >= _NARROW and any(row.signal_decades is not None for row in waterfall.rows)
    rows = fold(waterfall.rows, ROWS)[::-1]
    names = [page.clean(name) for name in words.fitted([row.name for row in rows], max(page.width // 3, 16))]
    name_width = max(map(len, names))
    scale = max((abs(row.decades) for row in rows if row.decades is not None), default=0.0) or 1.0
    with_theory = page.width >= _NARROW and waterfall.predicted_total is not None
    room = page.width - name_width - 2 - 8 - (8 if with_signal else 0) - (8 if with_theory else 0) - 3
    heading = f"{'':<{name_width}}  {'decades':>7} " + (f" {'theory':>7}" if with_theory else "")
    heading += f" {'signal':>7}" if with_signal else ""
    page.console.print(Text(f"  {heading.rstrip()}", QUIET), soft_wrap=True)
    for name, row in zip(names, rows, strict=True):
        columns = [row.predicted_decades] * with_theory + [row.signal_decades] * with_signal
        _row(page, f"{name:<{name_width}}", row, waterfall, columns=columns, room=room, scale=scale)
    total = f"{'total':<{name_width}}  {words.signed(waterfall.total):>7}"
    theory = f"  {words.signed(waterfall.predicted_total):>7}" if with_theory else ""
    signal = f"{'' if with_theory else ' '} {words.signed(waterfall.signal_total):>7}" if with_signal else ""
    page.console.print(Text(f"  {total}{theory}{signal}", "bold"), soft_wrap=True)


def _row(
    page: Page,
    name: str,
    row: Row,
    waterfall: Waterfall,
    *,
    columns: Sequence[float | None],
    room: int,
    scale: float,
) -> None:
    line = Text(f"  {name}  ")
    cuts = row.name == waterfall.cut
    line.append(f"{words.row_value(row, waterfall):>7} ", "bold red" if cuts else "")
    for value in columns:
        line.append(f" {words.signed(value):>7}", QUIET)
    line.append(" ")
    if cuts:
        line.append("|x nothing gets past" if room > 20 else "|x", "bold red")  # noqa: PLR2004 - its own length
    elif row.decades is not None:
        line.append(page.bar(abs(row.decades) / scale * room), LOST if row.decades < 0 else GAINED)
    line.rstrip()
    page.console.print(line, soft_wrap=True)
