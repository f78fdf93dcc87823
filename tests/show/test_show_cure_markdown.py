"""A cure as Markdown: the same as everywhere, and nothing that breaks out."""

import re

import pytest
from cures import DIFF, SOURCE

from graddoctor.show._marks import fenced
from graddoctor.show.markdown import to_markdown


def cells(text, heading):
    section = text.split(f"\n## {heading}")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def test_a_cure_tells_everything(cured):
    text = to_markdown(cured)
    for said in (
        "- **leaky ReLU in place of sigmoid** against activation. ",
        "Source: He et al. 2015, Delving Deep into Rectifiers. Cost: pretrained weights would be lost.",
        "## Proof: better",
        "Where nothing differs, such a result comes up in 3.1 % of all proofs.",
        "- orthogonal: RuntimeError",
        "## The checkup before\n\n**Sick**. The gradient vanishes",
        "## 1. Vanishing gradient",
        f"```diff\n{DIFF.rstrip()}\n```",
        f"```python\n{SOURCE.rstrip()}\n```",
        "graddoctor 0.1.0 · python",
    ):
        assert said in text


def test_the_pairs_are_a_table(cured):
    rows = cells(to_markdown(cured), "Proof: better")[2:]
    assert [row[:4] for row in rows] == [
        [
            str(pair.seed),
            f"{100 * pair.before:.0f} %",
            f"{100 * pair.after:.0f} %",
            f"{100 * pair.difference:+.0f}",
        ]
        for pair in cured.proof.pairs
    ]


def test_both_budgets_are_one_table(cured):
    rows = cells(to_markdown(cured), "Gradient budget")[2:]
    assert [row[0] for row in rows[:-1]] == [row.name for row in reversed(cured.budgets.before.rows)]
    for column, budget in ((1, cured.budgets.before), (2, cured.budgets.after)):
        assert sum(float(row[column]) for row in rows[:-1]) == pytest.approx(budget.total, abs=0.1)
        assert rows[-1][column] == f"**{budget.total:+.2f}**"


def test_every_table_is_rectangular(cured, not_cured, crowded):
    for report in (cured, not_cured, crowded):
        for table in re.findall(r"(?:^\|.*\|\n)+", to_markdown(report), re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, table


def test_names_cannot_become_markup(interrupted):
    text = to_markdown(interrupted)
    outside = re.sub(r"````python.*?````|(?<!\\)`[^`]*(?<!\\)`", "", text, flags=re.DOTALL)
    assert r"\<script\>alert" in outside
    assert "<script>" not in outside


@pytest.mark.parametrize(
    ("code", "fence"), [("a = 1", "```"), ("```", "````"), ("x = `````", "``````"), ("a `` b", "```")]
)
def test_no_code_ends_its_fence(code, fence):
    lines = fenced(code, "python").splitlines()
    assert lines[0] == f"{fence}python"
    assert lines[-1] == fence
