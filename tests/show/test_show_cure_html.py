"""The page of a cure: everything in words, code as it was written, tables for those who see no charts."""

import html
import re
from dataclasses import replace

import pytest
from cures import SOURCE

from graddoctor.show._code import coloured
from graddoctor.show.html import LIMIT, to_html


@pytest.fixture(scope="module")
def page(cured):
    return to_html(cured)


def text_of(page):
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_cure_tells_everything(page, cured):
    text = text_of(page)
    for said in (
        "graddoctor cure deep_sigmoid Cured",
        "points on 5 seeds +87 +79 to +91",
        "decades, loss to input −11.9 → +0.5",  # noqa: RUF001
        "time of a step 1.04 ×",
        "trainable parameters 54,410 as before",
        "the search took 2 min 21 s",
        "against initialization against activation",
        "Source He et al. 2015, Delving Deep into Rectifiers Cost pretrained weights would be lost",
        "Proof: better All five seeds gained",
        "Mean difference +87 points of progress, 95 % interval +79 to +91.",
        "Gradient budget, before and after As given: from the loss",
        "Every candidate is trained for the steps of a rung",
        "orthogonal : RuntimeError",
        "The checkup before: sick",
        cured.checkup.findings[0].summary,
        cured.checkup.ruled_out[0],
        "48,200 training steps",
    ):
        assert said in text, said


def test_code_stands_on_the_page_as_it_was_written(page, cured):
    for key, code in (("source", cured.source), ("diff", cured.diff)):
        (shown,) = re.findall(rf'<pre class="code" id="{key}"[^>]*>(.*?)</pre>', page, re.DOTALL)
        assert html.unescape(re.sub(r"<[^>]+>", "", shown)) == code


@pytest.mark.parametrize("language", ["python", "diff"])
def test_no_code_becomes_markup(language):
    shown = coloured("</pre><script>alert('&')</script>\x1b\n", language)
    assert not re.search(r"<(?!/?span)", shown)
    assert html.unescape(re.sub(r"<[^>]+>", "", shown)) == "</pre><script>alert('&')</script> \n"


def test_the_row_of_a_budget_has_both_sides_on_one_scale(page, cured):
    rows = re.findall(r'<details class="row">.*?</details>', page, re.DOTALL)
    assert len(rows) == 14
    first = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", rows[0])
    span = max(cured.budgets.after.total, 0.2) - cured.budgets.before.total
    for (_, width), budget in zip(first, (cured.budgets.before, cured.budgets.after), strict=True):
        assert float(width) == pytest.approx(100 * abs(budget.rows[-1].decades) / span, rel=0.05)


def test_a_row_that_one_side_lacks_says_so(cured):
    after = replace(cured.budgets.after, rows=cured.budgets.after.rows[1:])
    text = to_html(replace(cured, budgets=replace(cured.budgets, after=after)))
    assert text.count("No such row.") == 1


def test_every_seed_stands_in_a_table(page, cured):
    text = text_of(page)
    for pair in cured.proof.pairs:
        assert f"{pair.seed} {100 * pair.before:.0f} % {100 * pair.after:.0f} % {100 * pair.difference:+.0f}" in text


def test_without_code_there_is_no_button_and_without_charts_no_script(sound):
    assert "<script>" not in to_html(sound)
    assert "data-copy" not in to_html(sound)


def test_a_large_report_is_shown_in_less_detail(crowded):
    page = to_html(replace(crowded, source=SOURCE * 200))
    assert len(page.encode()) < LIMIT
    assert text_of(page).count("def treat_model") == 200
