"""A console as the faces of the terminal see it: paragraphs, tables and bars that fit its width and its alphabet."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from graddoctor.show import words

QUIET = "dim"
_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "…": "...",
        "→": "->",
        "»": ">>",
        "←": "<-",
        "×": "x",
    }
    | {"•": "-", "▌": "|", "─": "-", "━": "-", "│": "|"}
    | {"·": "-", "‖": "||", "≤": "<=", "≥": ">=", "±": "+-", "≈": "~", "“": '"', "”": '"', "²": "^2", "√": "sqrt "}
    | {"\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\u00a0": " ", "\u202f": " "}
)


_NAMES = str.maketrans(
    {"χ": "chi", "φ": "phi", "σ": "sigma", "η": "eta", "λ": "lambda", "μ": "mu", "ε": "eps", "δ": "delta", "γ": "gamma"}
    | {"Ω": "Omega", "∂": "d", "∏": "prod", "∞": "inf", "\u2032": "'", "ᵀ": "^T", "⋯": "...", "∈": "in"}
)


class Page:
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
        if not self.plain:
            return shown
        shown = shown.translate(_ASCII)
        encoding = self.console.encoding
        if encoding.lower().startswith("utf"):
            return shown
        return shown.translate(_NAMES).encode(encoding, "replace").decode(encoding)

    def gap(self) -> None:
        self.console.print()

    def labelled(self, label: str, content: str) -> None:
        self.hanging(f"   {label:<8}", content)

    def hanging(self, head: str, content: str, style: str = "", head_style: str = QUIET) -> None:
        """Print a paragraph whose lines begin where its head ends."""
        text = Text(self.clean(content), style, overflow="fold")
        for index, line in enumerate(text.wrap(self.console, self.width - len(head))):
            line.rstrip()
            begin = Text(head if index == 0 else " " * len(head), head_style)
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

    def bar(self, length: float) -> str:
        """Draw a bar; in block characters to an eighth of a column."""
        if self.plain:
            return "#" * max(round(length), 1 if length > 0 else 0)
        eighths = round(length * 8)
        return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str | tuple[str, str]]], *, numbers: Sequence[int]
    ) -> None:
        """Print a table without lines; the columns ``numbers`` stand to the right, a cell may bring its style."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
        for place, name in enumerate(columns):
            right = place in numbers
            table.add_column(self.clean(name), justify="right" if right else "left", no_wrap=right, overflow="fold")
        for row in rows:
            cells = [(cell, "") if isinstance(cell, str) else cell for cell in row]
            table.add_row(*(Text(self.clean(text), style) for text, style in cells))
        options = self.console.options.update(width=self.width - 3)
        for line in self.console.render_lines(table, options, pad=False):
            self.console.print(Text("   ").append_text(_line(line)), soft_wrap=True)

    def print_lines(self, lines: Sequence[Sequence[Segment]]) -> None:
        """Print lines that were laid out already; in plain text with plain characters."""
        for line in lines:
            shown = [Segment(self.clean(piece.text), piece.style) for piece in line if not piece.control]
            self.console.print(_line(shown), soft_wrap=True)

    def code(self, text: str, language: str) -> None:
        """Print code as it is, so that it can be copied; coloured where there are colours."""
        shown = "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text.rstrip())
        if self.console.color_system is None or self.console.no_color:
            self.console.file.write(f"{shown}\n")  # the console itself would make blanks of tabs
            return
        from rich.syntax import Syntax  # noqa: PLC0415 - loads the highlighter, which a checkup does not need

        syntax = Syntax("", language, theme="ansi_dark", background_color="default")
        self.console.print(syntax.highlight(shown), soft_wrap=True, end="")


def _line(segments: Sequence[Segment]) -> Text:
    line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
    line.rstrip()
    return line
