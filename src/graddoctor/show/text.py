"""The terminal's face of a report: the verdict in the first line, then why, then where the gradient goes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO

from rich.console import Console
from rich.text import Text

from graddoctor.show import words
from graddoctor.show.names import readable
from graddoctor.show.report import Report, Row, Waterfall
from graddoctor.show.thin import fold
from graddoctor.terms import Blame, Finding, Severity

ROWS = 30
"""Budget rows that a terminal shows; smaller ones beyond are folded together."""

_STYLES = {"healthy": "bold green", "sick": "bold red", "inconclusive": "bold yellow"}
_SEVERITIES = {Severity.CRITICAL: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold blue"}
_LOST, _GAINED, _QUIET = "red", "cyan", "dim"
_NARROW = 72  # columns under which the signal ledger would leave no room for bars
_ASCII = str.maketrans(
    {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-", "…": "...", "→": "->", "←": "<-", "×": "x"}
    | {"·": "-", "‖": "||", "≤": "<=", "≥": ">=", "±": "+-", "≈": "~", "“": '"', "”": '"', "²": "^2", "√": "sqrt "}
    | {"\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\u00a0": " ", "\u202f": " "}
)


def print_report(report: Report, *, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print a report to a terminal or a pipe.

    Colours and block characters appear on a terminal only; ``NO_COLOR`` is honoured. Into a pipe goes plain text.

    Parameters
    ----------
    file
        Where to; standard output if left out.
    width
        Columns; the terminal's if left out, 100 in a pipe.
    """
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if width is None and not console.is_terminal:
        console.width = 100
    plain = not console.is_terminal or not console.encoding.lower().startswith("utf")
    _Page(console, plain=plain).report(report)


def to_text(report: Report, *, width: int = 100) -> str:
    """Give a report as plain text without colours."""
    with io.StringIO() as file:
        console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, color_system=None)
        _Page(console, plain=True).report(report)
        return file.getvalue()


class _Page:
    """Lays a report out on a console; knows its width and whether it takes more than plain characters."""

    def __init__(self, console: Console, *, plain: bool) -> None:
        self.console = console
        self.plain = plain
        self.width = max(console.width, 40)

    def say(self, *pieces: str | tuple[str, str], indent: int = 0) -> None:
        """Print one paragraph; a piece with a second part is styled by it."""
        text = Text()
        for piece in pieces:
            words_, style = (piece, "") if isinstance(piece, str) else piece
            text.append(self.clean(words_), style)
        self._print(text, indent)

    def _print(self, text: Text, indent: int = 0) -> None:
        text.overflow = "fold"
        lines = text.wrap(self.console, self.width - indent)
        for line in lines:
            line.rstrip()
            self.console.print(Text(" " * indent).append_text(line), soft_wrap=True)

    def clean(self, text: str) -> str:
        """Drop control characters, and in plain text everything typographic."""
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        return shown.translate(_ASCII) if self.plain else shown

    def gap(self) -> None:
        self.console.print()

    # --- the parts, from the first line down -------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        report = readable(report)
        self.say((report.verdict.upper(), _STYLES[report.verdict]), f"  {report.title}: ", report.headline)
        self.say((words.coverage(report.coverage), _QUIET))
        for place, finding in enumerate(report.findings, start=1):
            self.gap()
            self.finding(place, finding)
        self.sentences("Ruled out", report.ruled_out)
        self.sentences("Also noticed", [words.note(note) for note in report.notes])
        if report.budget is not None and report.budget.rows:
            self.gap()
            self.budget(report.budget)
        if report.losses is not None and report.losses.steps:
            self.gap()
            self.say(words.loss(report.losses))
        for event in report.events:
            self.say(f"Step {event.step}: {event.text}", indent=2)

    def finding(self, place: int, finding: Finding) -> None:
        self.say(
            (f"{place}. {words.title(finding.condition)}", "bold"),
            "  ",
            (finding.severity.name.lower(), _SEVERITIES[finding.severity]),
            (f"  {words.confirmation(finding)}".rstrip(), _QUIET),
        )
        if finding.summary:
            self.say(finding.summary, indent=3)
        if finding.detail:
            self.say((finding.detail, _QUIET), indent=3)
        elif figures := words.numbers(finding.numbers):
            self.say((figures, _QUIET), indent=3)
        if finding.modules:
            self.labelled("where", self.names(finding.modules))
        for rank, blame in enumerate(finding.causes):
            self.cause(blame, "cause" if rank == 0 else "also")
        for trial in finding.trials:
            self.labelled("tried", words.trial(trial))
        if finding.consequences:
            self.say(words.consequences(finding), indent=3)

    def cause(self, blame: Blame, label: str) -> None:
        where = f" in {self.names(blame.modules, 3)}" if blame.modules else ""
        self.labelled(label, f"{words.cause(blame)}{where}")
        if blame.sentence:
            self.say(blame.sentence, indent=11)
        if blame.remedies:
            self.say((f"try {', '.join(blame.remedies)}", "green"), indent=11)

    def labelled(self, label: str, content: str) -> None:
        self.hanging(f"   {label:<8}", content)

    def hanging(self, head: str, content: str) -> None:
        """Print a paragraph whose lines begin where its head ends."""
        text = Text(self.clean(content), overflow="fold")
        for index, line in enumerate(text.wrap(self.console, self.width - len(head))):
            line.rstrip()
            begin = Text(head if index == 0 else " " * len(head), _QUIET)
            self.console.print(begin.append_text(line), soft_wrap=True)

    def names(self, names: Sequence[str], limit: int = 4) -> str:
        return words.listing([words.shorten(name, self.width - 20) for name in names], limit)

    def sentences(self, heading: str, sentences: Sequence[str]) -> None:
        if not sentences:
            return
        self.gap()
        self.say((heading, "bold"))
        for sentence in sentences:
            self.hanging("   - ", words.begun(sentence))

    # --- the budget --------------------------------------------------------------------------------------------------

    def budget(self, waterfall: Waterfall) -> None:
        self.say(("Gradient budget", "bold"), "  decades gained (+) or lost (-), from the loss back to the input")
        self.say(words.budget(waterfall))
        if waterfall.losses:
            self.say(words.losses(waterfall))
        with_signal = self.width >= _NARROW and any(row.signal_decades is not None for row in waterfall.rows)
        rows = fold(waterfall.rows, ROWS)[::-1]
        names = [self.clean(name) for name in words.fitted([row.name for row in rows], max(self.width // 3, 16))]
        name_width = max(map(len, names))
        scale = max((abs(row.decades) for row in rows if row.decades is not None), default=0.0) or 1.0
        room = self.width - name_width - 2 - 8 - (8 if with_signal else 0) - 3
        heading = f"{'':<{name_width}}  {'decades':>7} " + (f" {'signal':>7}" if with_signal else "")
        self.console.print(Text(f"  {heading.rstrip()}", _QUIET), soft_wrap=True)
        for name, row in zip(names, rows, strict=True):
            self.row(f"{name:<{name_width}}", row, waterfall, with_signal=with_signal, room=room, scale=scale)
        total = f"{'total':<{name_width}}  {words.signed(waterfall.total):>7}"
        signal = f"  {words.signed(waterfall.signal_total):>7}" if with_signal else ""
        self.console.print(Text(f"  {total}{signal}", "bold"), soft_wrap=True)

    def row(self, name: str, row: Row, waterfall: Waterfall, *, with_signal: bool, room: int, scale: float) -> None:
        line = Text(f"  {name}  ")
        cuts = row.name == waterfall.cut
        line.append(f"{words.row_value(row, waterfall):>7} ", "bold red" if cuts else "")
        if with_signal:
            line.append(f" {words.signed(row.signal_decades):>7}", _QUIET)
        line.append(" ")
        if cuts:
            line.append("|x nothing gets past" if room > 20 else "|x", "bold red")  # noqa: PLR2004 - its own length
        elif row.decades is not None:
            line.append(self.bar(abs(row.decades) / scale * room), _LOST if row.decades < 0 else _GAINED)
        line.rstrip()
        self.console.print(line, soft_wrap=True)

    def bar(self, length: float) -> str:
        """Draw a bar; in block characters to an eighth of a column."""
        if self.plain:
            return "#" * max(round(length), 1 if length > 0 else 0)
        eighths = round(length * 8)
        return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
