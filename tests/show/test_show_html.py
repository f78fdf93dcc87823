"""The page as a file: one piece, no network, small, escaped, readable without scripts."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from cures import CURES

from graddoctor.show.html import LIMIT, to_html
from graddoctor.show.report import Report

VOID = {"meta", "link", "br", "hr", "img", "input"}
NAMES = ["sick", "numbered", "healthy", "inconclusive", "cut", "huge", *CURES]


class Page(HTMLParser):
    """The page's text and tags without scripts: what a reader with scripts switched off has."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open, self.specs = [], [], [], None
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            if self.tags[-1][1].get("id") == "specs":
                self.specs = json.loads(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def pages():
    return {}


@pytest.fixture
def page(request, pages):
    name = request.param
    if name not in pages:
        html = to_html(request.getfixturevalue(name))
        pages[name] = (html, Page(html))
    return request.getfixturevalue(name), *pages[name]


every = pytest.mark.parametrize("page", NAMES, indirect=True)


@every
def test_a_page_is_small_and_asks_for_nothing(page):
    _, html, parsed = page
    assert len(html.encode()) < LIMIT < 1_500_000
    for tag, attributes in parsed.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#")[:1] == "#" or attributes["href"] == "data:,"
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "@import" not in html
    assert "unsafe-eval" not in policy


@every
def test_the_verdict_comes_first_and_headings_are_in_order(page):
    report, _, parsed = page
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    words = parsed.words
    assert words.index(report.verdict.capitalize()) < words.index(report.headline.replace("<", "&lt;")[:10])


@every
def test_every_picture_has_words(page):
    _, _, parsed = page
    figures = [a for t, a in parsed.tags if "data-chart" in a]
    assert bool(figures) == (parsed.specs is not None)
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in figures)
    assert {a["data-chart"] for a in figures} == set(parsed.specs or ())
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in parsed.tags if "aria-labelledby" in a)


@pytest.mark.parametrize("page", ["sick"], indirect=True)
def test_findings_and_budget_need_no_script(page):
    report, _, parsed = page
    finding = report.findings[0]
    for told in (finding.summary, finding.detail, "91 %", "relu", "Goes away with it: plateau.", report.ruled_out[0]):
        assert told in parsed.words
    assert sum(tag == "details" and a.get("class", "").startswith("row") for tag, a in parsed.tags) == 14
    for row in report.budget.rows:
        assert row.name in parsed.words
        assert f"{row.decades:.2f}".replace("-", "\N{MINUS SIGN}") in parsed.words
    assert "The charts below need JavaScript" in parsed.words


@pytest.mark.parametrize("page", ["healthy"], indirect=True)
def test_a_residual_row_opens_into_skip_and_branch(page):
    _, _, parsed = page
    assert re.search(r"skip identity \S+ 93 % branch branch \S+ 7 % conv1 conv", parsed.words)


@pytest.mark.parametrize("page", ["cut"], indirect=True)
def test_names_cannot_become_markup(page):
    _, html, parsed = page
    assert '<script>alert("x")' not in html
    assert 'net.<script>alert("x")</script>' in parsed.words
    assert "zero from net.relu on" in parsed.words
    assert "The chain ends at net.relu" in parsed.words


@pytest.mark.parametrize("page", ["huge"], indirect=True)
def test_five_hundred_rows_are_folded_not_dropped(page):
    report, _, parsed = page
    rows = [a for t, a in parsed.tags if t == "details" and a.get("class", "").startswith("row")]
    assert 20 <= len(rows) <= 160
    assert "smaller rows" in parsed.words
    assert "\N{MINUS SIGN}19.54" in parsed.words
    assert f"{len(report.findings[0].modules) - 6} more" in parsed.words


def test_a_report_of_nothing_is_still_a_page():
    parsed = Page(to_html(Report("net", "inconclusive", "Nothing was seen.")))
    assert "Inconclusive" in parsed.words
    assert "No findings" in parsed.words
    assert parsed.specs is None


def test_tables_come_packed_and_mean_the_same(sick):
    from graddoctor.show import charts  # noqa: PLC0415 - of this test alone
    from graddoctor.show._page import packed  # noqa: PLC0415 - as above

    def unpacked(value):
        if isinstance(value, list):
            return [unpacked(item) for item in value]
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("columns"), dict):
            return {key: unpacked(item) for key, item in value.items()}
        cells = {n: c["is"] if "is" in c else [c["of"][i] for i in c["at"]] for n, c in value["columns"].items()}
        return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]

    for chart in (charts.heat_chart(sick.heat), charts.loss_chart(sick.losses, sick.events)):
        spec = chart.to_dict()
        assert unpacked(packed(spec)) == spec
        assert len(json.dumps(packed(spec))) < len(json.dumps(spec))
