"""What a notebook shows: no script, nothing from elsewhere, nothing that breaks out."""

from html.parser import HTMLParser

import pytest
from cures import CURES

from graddoctor.show.notebook import mimebundle, notebook_html


class Tags(HTMLParser):
    """Collects what is opened, and checks that it is closed."""

    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["sick", "healthy", "inconclusive", "cut", "huge", *CURES])
def test_the_fragment_is_sound_and_stands_alone(name, request):
    report = request.getfixturevalue(name)
    html = notebook_html(report)
    tags = Tags()
    tags.feed(html)
    assert not tags.open
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in tags.seen}
    assert "http" not in html
    assert report.verdict.capitalize() in html
    assert len(html) < 70_000


def test_findings_and_budget_are_in_it(sick, cut):
    html = notebook_html(sick)
    assert sick.findings[0].summary in html
    assert html.count("<tr>") == 1 + len(sick.budget.rows)
    assert "zero" in notebook_html(cut)
    assert "&lt;script&gt;" in notebook_html(cut)


def test_a_report_offers_itself_in_every_form(sick):
    assert set(sick._repr_mimebundle_()) == {"text/plain", "text/html", "text/markdown"}
    assert sick._repr_html_() == notebook_html(sick)
    assert set(mimebundle(sick, include={"text/html"})) == {"text/html"}
    assert set(mimebundle(sick, exclude={"text/html"})) == {"text/plain", "text/markdown"}


def test_a_cure_offers_itself_too(cured):
    assert set(cured._repr_mimebundle_()) == {"text/plain", "text/html", "text/markdown"}
    html = notebook_html(cured)
    assert cured._repr_html_() == html
    assert str(cured) == mimebundle(cured)["text/plain"]
    for one in cured.remedies:
        assert one.source in html
    for told in ("Proof:", "95 % interval +79 to +91", "Gradient budget, before and after", "first choice"):
        assert told in html
    assert html.count("<tr>") == 3 + len(cured.proof.pairs) + len(cured.budgets.before.rows) + 8
    assert "nn.LeakyReLU()" in html
    assert cured.checkup.findings[0].summary in html


def test_a_cure_of_one_budget_shows_that_one(not_cured, interrupted):
    html = notebook_html(not_cured)
    assert "before and after" not in html
    assert "blocks.8" in html
    assert "Gradient budget" not in notebook_html(interrupted)
    assert "&lt;script&gt;" in notebook_html(interrupted)
