"""Markdown that says the same and cannot be broken out of."""

import re

import pytest
from cures import CURES

from graddoctor.show.markdown import to_markdown


@pytest.mark.parametrize("name", ["sick", "healthy", "inconclusive", "cut", "huge", *CURES])
def test_the_verdict_is_the_heading(name, request):
    report = request.getfixturevalue(name)
    assert to_markdown(report).splitlines()[0].startswith(f"# {report.verdict.capitalize()}: ")


def test_findings_causes_and_remedies_are_told(sick):
    text = to_markdown(sick)
    for told in (
        "## 1. Vanishing gradient (critical, confirmed by experiment)",
        sick.findings[0].summary,
        "- **Activation, 91 %** in `layers.1`",
        "Try `relu`, `gelu`.",
        "Goes away with it: plateau.",
        "- The learning rate: neither a tenth nor ten times of it helped.",
        "Sigmoids exchanged for ReLU: helped",
    ):
        assert told in text


def test_the_budget_is_a_table_from_the_loss_down(sick):
    rows = re.findall(r"^\| (layers\S+) \| .* \| (\S+) \| (\S+) \|$", to_markdown(sick), re.MULTILINE)
    assert [name for name, _, _ in rows] == [row.name for row in reversed(sick.budget.rows)]
    assert sum(float(value) for _, value, _ in rows) == pytest.approx(sick.budget.total, abs=0.1)
    assert "| **total** | | **-11.89** | -5.70 |" in to_markdown(sick)


def test_names_cannot_become_markup(cut):
    text = to_markdown(cut)
    assert "<script>" not in re.sub(r"`[^`]*`", "", text).replace(r"\<script\>", "")
    assert "| net.relu | relu | zero | - |" in text
    assert "The chain ends at net.relu" in text


def test_pipes_and_backticks_stay_inside_their_cell_and_span():
    from graddoctor.show._marks import code, plain  # noqa: PLC0415 - helpers of this one test

    assert plain("a|b\nc") == r"a\|b c"
    assert code("a`b``c") == "``` a`b``c ```"
    assert code("") == "`(the model itself)`"
