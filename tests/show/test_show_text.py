"""The terminal's face: the verdict first, nothing too wide, nothing lost in a pipe."""

import io
from dataclasses import replace

import pytest
from cures import CURES

from graddoctor.show import words
from graddoctor.show.text import print_report, to_text

NAMES = ["sick", "numbered", "healthy", "inconclusive", "cut", "huge"]


class Terminal(io.StringIO):
    """A terminal that keeps what it is told."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


@pytest.mark.parametrize("name", [*NAMES, *CURES[:-1]])
def test_the_first_line_is_the_verdict(name, request):
    report = request.getfixturevalue(name)
    assert to_text(report).splitlines()[0].startswith(f"{report.verdict.upper()}  ")


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("name", [*NAMES, *CURES])
def test_no_line_is_wider_than_the_terminal(name, width, request):
    report = request.getfixturevalue(name)
    if name in CURES:  # code is never wrapped, so that it can be copied
        report = replace(report, source="", diff="")
    lines = to_text(report, width=width).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("name", [*NAMES, *CURES])
def test_plain_text_is_ascii_without_escapes(name, request):
    text = to_text(request.getfixturevalue(name))
    assert text.isascii()
    assert "\x1b" not in text


def test_typography_of_others_becomes_plain_too(healthy):
    text = to_text(replace(healthy, headline="ReLU \u2192 10 \u00d7 \u2264 3 \u2026", ruled_out=("\x1b[31mred\x07",)))
    assert "ReLU -> 10 x <= 3 ..." in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_finding_tells_everything(sick):
    text = " ".join(to_text(sick).split())
    finding = sick.findings[0]
    for told in (
        "1. Vanishing gradient critical confirmed by experiment",
        finding.summary,
        finding.detail,
        "layers.1, layers.3, layers.5, layers.7 and 10 more",
        "Activation, 91 %",
        finding.causes[0].sentence,
        "try relu, gelu",
        "Initialization, 4 %",
        "Sigmoids exchanged for ReLU: helped, +82 points of progress in 60 steps",
        "Goes away with it: plateau.",
        sick.ruled_out[0],
        words.budget(sick.budget),
        "Step 40: loss has not moved for 40 steps",
        "200 of 2,000 steps seen",
    ):
        assert told in text


def test_notes_are_told_apart_from_findings(healthy):
    text = to_text(healthy)
    assert "Also noticed\n   - Unscaled input: Inputs reach up to 255.\n" in text
    assert "1. " not in text


def test_bars_are_as_long_as_their_decades(sick):
    lines = to_text(sick).splitlines()
    bars = {
        row.name: next(line for line in lines if line.split()[:1] == [row.name]).count("#") for row in sick.budget.rows
    }
    longest = max(sick.budget.rows, key=lambda row: -row.decades)
    for row in sick.budget.rows:
        assert bars[row.name] == pytest.approx(bars[longest.name] * row.decades / longest.decades, abs=1)
    names = [line.split()[0] for line in lines if line.strip().startswith("layers.")]
    assert names == [row.name for row in reversed(sick.budget.rows)]


def test_a_cut_stands_where_its_number_would(cut):
    lines = to_text(cut).splitlines()
    assert any(line.split()[:2] == ["net.relu", "zero"] and "nothing gets past" in line for line in lines)
    assert "The chain ends at net.relu" in to_text(cut)


def test_many_rows_are_folded_and_still_add_up(huge):
    lines = to_text(huge, width=100).splitlines()
    begin = next(i for i, line in enumerate(lines) if "decades   signal" in line)
    end = next(i for i, line in enumerate(lines) if line.strip().startswith("total"))
    assert end - begin <= 31
    numbers = [_decades(line) for line in lines[begin + 1 : end]]
    assert sum(numbers) == pytest.approx(huge.budget.total, abs=0.3)


def _decades(line):
    return next(float(word) for word in line.split() if word[0] in "+-" and "." in word)


def test_a_terminal_gets_colour_and_blocks(sick, terminal):
    print_report(sick, file=terminal, width=100)
    assert "\x1b[" in terminal.getvalue()
    assert "█" in terminal.getvalue()


def test_no_color_is_honoured(sick, terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    print_report(sick, file=terminal, width=100)
    codes = {code for part in terminal.getvalue().split("\x1b[")[1:] for code in part.split("m")[0].split(";")}
    assert not codes & {str(code) for code in (*range(30, 50), *range(90, 108))}
    assert "█" in terminal.getvalue()


def test_a_pipe_gets_plain_text(sick):
    pipe = io.StringIO()
    print_report(sick, file=pipe)
    assert pipe.getvalue() == to_text(sick, width=100)


def test_square_brackets_are_no_markup(healthy):
    assert "[red]net[/red]: " in to_text(replace(healthy, title="[red]net[/red]"))


def test_a_report_prints_itself(sick):
    assert str(sick) == to_text(sick)
