"""A cure in the terminal: what is changed, the proof as a table, the race, and code that can be pasted."""

import io
import re
from dataclasses import replace

import pytest
from cures import DIFF, SOURCE

from graddoctor.show import cure_words as told
from graddoctor.show.cure import Budgets
from graddoctor.show.text import print_report, to_text

OWN = SOURCE[SOURCE.index("def treat_model(") :].rstrip()


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


def test_a_cure_tells_everything(cured):
    text = " ".join(to_text(cured).split())
    for said in (
        "CURED deep_sigmoid: Leaky ReLU in place of sigmoid, re-initialised: better on all 5 fresh seeds.",
        "48,200 training steps (24.1 x the plain training), 2 min 21 s, 2 workers.",
        "1. leaky ReLU in place of sigmoid against activation",
        "source He et al. 2015",
        "cost pretrained weights would be lost",
        "layers.1, layers.3, layers.5, layers.7 and 10 more",
        "Better: All five seeds gained",
        "101 2 % 91 % +89",
        "95 % interval +79 to +91",
        "41 % -> 66 % -> 84 % 2,000 first choice won",
        "lost: ended non-finite",
        "Orthogonal: RuntimeError: only tensors",
        "As given: from the loss back to the first layer 11.9 decades of gradient are lost",
        "The checkup before sick: The gradient vanishes",
        "1. Vanishing gradient critical",
    ):
        assert said in text


@pytest.mark.parametrize("name", ["sound", "not_cured", "interrupted"])
def test_where_nothing_is_changed_it_says_so(name, request):
    report = request.getfixturevalue(name)
    assert f"What is changed\n   {told.UNCHANGED[report.verdict][:40]}" in to_text(report)
    assert ("Ended early: " in to_text(report)) == bool(report.aborted)


def test_code_can_be_copied_as_it_was_written(cured):
    assert f"\n{DIFF.rstrip()}\n" in to_text(cured, width=40)
    assert f"\n{OWN}\n" in to_text(replace(cured, diff=""), width=40)


def test_helpers_of_the_source_are_left_to_the_file(cured):
    shown = to_text(cured)
    assert OWN in shown
    assert "def swap_activation" in SOURCE
    assert "def swap_activation" not in shown


def test_both_budgets_stand_side_by_side_on_one_scale(cured):
    lines = to_text(cured).splitlines()
    rows = [line for line in lines if re.match(r"  layers\.\d+ +[-+]", line)]
    assert [line.split()[0] for line in rows] == [row.name for row in reversed(cured.budgets.before.rows)]
    for line, one, other in zip(
        rows, reversed(cured.budgets.before.rows), reversed(cured.budgets.after.rows), strict=True
    ):
        before, after = re.findall(r"([-+]\d\.\d\d) (#*)", line)
        assert float(before[0]) == pytest.approx(one.decades, abs=0.006)
        assert float(after[0]) == pytest.approx(other.decades, abs=0.006)
        assert len(after[1]) == pytest.approx(len(before[1]) * abs(other.decades / one.decades), abs=1.5)
    assert any(line.split() == ["total", "-11.89", f"{cured.budgets.after.total:+.2f}"] for line in lines)


def test_a_cut_on_one_side_stands_where_its_number_would(cured, cut):
    text = to_text(replace(cured, budgets=Budgets(cut.budget, cured.budgets.after)))
    assert re.search(r"net\.relu +zero", text)
    assert "The chain ends at net.relu" in " ".join(text.split()).replace("the chain", "The chain")


def test_a_long_race_is_cut_and_counted(crowded):
    text = to_text(crowded)
    assert "and 20 more, which got no further" in text
    assert len(re.findall(r"stage \d", text)) == 20


def test_a_terminal_gets_colour_and_a_pipe_none(cured, terminal):
    print_report(cured, file=terminal, width=100)
    shown = terminal.getvalue()
    assert re.search(r"\x1b\[[\d;]*m-        layers", shown)
    assert "█" in shown
    assert "×" in shown
    pipe = io.StringIO()
    print_report(cured, file=pipe)
    assert pipe.getvalue() == to_text(cured, width=100)


@pytest.mark.parametrize("diff", [DIFF, ""])
def test_no_color_is_honoured(diff, cured, terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    print_report(replace(cured, diff=diff), file=terminal, width=100)
    codes = {code for part in terminal.getvalue().split("\x1b[")[1:] for code in part.split("m")[0].split(";")}
    assert not codes & {str(code) for code in (*range(30, 50), *range(90, 108))}
    assert (diff or OWN).rstrip() in terminal.getvalue()


def test_control_characters_in_code_do_nothing(cured):
    text = to_text(replace(cured, diff="+\x1b[2Jprint()\t# tab"))
    assert "\x1b" not in text
    assert "+ [2Jprint()\t# tab" in text
