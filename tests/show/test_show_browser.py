"""The page in a browser: it is silent, asks for nothing, opens its rows, and follows light and dark."""

import shutil

import pytest
from cures import CURES

from graddoctor import lab
from graddoctor.show import save
from lab_toys import toy

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def saved(shelf, request):
    """Save a report once for all tests, and give its path."""

    def path_of(name):
        path = shelf / f"{name}.html"
        return path if path.exists() else save(request.getfixturevalue(name), path)

    return path_of


class Visit:
    """A page as it was opened, with everything it said and asked for."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def drawn(self):
        self.page.wait_for_selector("html[data-drawn]", timeout=30_000)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("name", ["sick", "healthy", "inconclusive", "cut", "huge"])
def test_a_page_draws_every_chart_without_a_word_or_a_request(name, chromium, saved):
    path = saved(name)
    with Visit(chromium, path) as visit:
        visit.drawn()
        assert visit.page.locator(".chart svg").count() == visit.page.locator(".chart").count() >= 4
        assert visit.said == []
        assert visit.asked == [path.as_uri()]


@pytest.mark.parametrize("name", CURES)
def test_the_page_of_a_cure_is_silent_too(name, chromium, saved):
    path = saved(name)
    with Visit(chromium, path) as visit:
        charts = visit.page.locator(".chart").count()
        assert charts == {"cured": 4, "not_cured": 4, "sound": 0, "interrupted": 1, "crowded": 2}[name]
        if charts:
            visit.drawn()
        assert visit.page.locator(".chart svg").count() == charts
        assert visit.said == []
        assert visit.asked == [path.as_uri()]


@pytest.fixture(scope="module")
def laboratory():
    return lab.run(
        toy(), toy("other", claim="A claim that is long enough to need more than one line on a telephone."), workers=0
    )


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_of_the_lab_is_silent_and_fits(width, chromium, laboratory, saved):
    path = saved("laboratory")
    with Visit(chromium, path, viewport={"width": width, "height": 800}) as visit:
        visit.drawn()
        assert visit.page.locator(".chart svg").count() == 4
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.page.get_by_role("link", name="A other").click()
        assert visit.page.url.endswith("#other")
        assert visit.said == []
        assert visit.asked == [path.as_uri()]


def test_code_is_copied_as_it_was_written(chromium, cured, saved):
    with Visit(chromium, saved("cured")) as visit:
        visit.drawn()
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        button = visit.page.locator("[data-copy=source]")
        button.click()
        visit.page.get_by_role("button", name="Copied").wait_for(timeout=5_000)
        assert visit.page.evaluate("navigator.clipboard.readText()") == cured.source
        assert visit.page.locator("#diff").text_content() == cured.diff


def test_where_copying_is_not_allowed_code_is_selected(chromium, cured, saved):
    with Visit(chromium, saved("cured")) as visit:
        visit.drawn()
        visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        visit.page.locator("[data-copy=diff]").click()
        assert visit.page.evaluate("getSelection().toString()").strip() == cured.diff.strip()


def test_both_sides_of_a_budget_stand_on_one_scale(chromium, saved):
    with Visit(chromium, saved("cured")) as visit:
        widths = visit.page.evaluate("[...document.querySelectorAll('.row .track')].map((one) => one.clientWidth)")
        assert len(widths) == 28
        assert max(widths) - min(widths) <= 1
        row = visit.page.locator("details.row").first
        row.locator("summary").click()
        assert row.get_by_text("Sigmoid", exact=True).is_visible()
        assert row.get_by_text("LeakyReLU", exact=True).is_visible()


def test_a_row_opens_on_click_and_by_keyboard(chromium, saved):
    with Visit(chromium, saved("sick")) as visit:
        row = visit.page.locator("details.row").nth(2)
        inside = row.get_by_text("Sigmoid", exact=True)
        assert not inside.is_visible()
        row.locator("summary").click()
        assert inside.is_visible()
        row.locator("summary").press("Enter")
        assert not inside.is_visible()
        row.locator("summary").press("Space")
        assert inside.is_visible()


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(251, 250, 247)"), ("dark", "rgb(21, 22, 24)")])
def test_page_and_charts_follow_the_colour_scheme(scheme, paper, chromium, saved):
    with Visit(chromium, saved("sick"), color_scheme=scheme) as visit:
        visit.drawn()
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        label = "getComputedStyle(document.querySelector('#chart-heat .role-axis-label text')).fill"
        quiet = "getComputedStyle(document.querySelector('figcaption')).color"
        assert visit.page.evaluate(label) == visit.page.evaluate(quiet)


def test_a_change_of_scheme_needs_no_drawing(chromium, saved):
    with Visit(chromium, saved("sick"), color_scheme="light") as visit:
        visit.drawn()
        label = "getComputedStyle(document.querySelector('#chart-heat .role-axis-label text')).fill"
        before = visit.page.evaluate(label)
        visit.page.emulate_media(color_scheme="dark")
        assert visit.page.evaluate(label) != before
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate(label) == before


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("sick", 320), ("cut", 320), ("huge", 390), ("cut", 1400)),
        *(("cured", 320), ("crowded", 320), ("interrupted", 320)),
    ],
)
def test_nothing_runs_off_the_screen(name, width, chromium, saved):
    path = saved(name)
    with Visit(chromium, path, viewport={"width": width, "height": 800}) as visit:
        visit.drawn()
        for summary in visit.page.locator("details:not(.row) > summary, details.row:first-of-type > summary").all():
            summary.click()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_findings_and_budget_remain(chromium, sick, saved):
    with Visit(chromium, saved("sick"), java_script_enabled=False) as visit:
        assert visit.page.get_by_text(sick.findings[0].summary).is_visible()
        assert visit.page.locator("details.row").count() == 14
        assert visit.page.get_by_text("The charts below need JavaScript").is_visible()
        row = visit.page.locator("details.row").first
        row.locator("summary").click()
        assert row.get_by_text("Sigmoid", exact=True).is_visible()


def test_paper_gets_every_row_opened(chromium, saved):
    with Visit(chromium, saved("sick")) as visit:
        visit.drawn()
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.locator("details:not([open])").count() == 0
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert visit.page.locator("details[open]").count() == 0


def test_a_tooltip_tells_what_is_pointed_at(chromium, saved):
    with Visit(chromium, saved("sick")) as visit:
        visit.drawn()
        visit.page.locator("#chart-heat .mark-rect path").first.hover()
        tooltip = visit.page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for(timeout=5_000)
        assert "layers." in tooltip.inner_text()
        assert visit.said == []


def test_without_scripts_a_cure_remains(chromium, cured, saved):
    with Visit(chromium, saved("cured"), java_script_enabled=False) as visit:
        assert visit.page.get_by_text(cured.proof.sentence).is_visible()
        assert visit.page.locator("details.row").count() == 14
        assert not visit.page.locator("[data-copy=source]").is_visible()
        assert visit.page.get_by_text("def treat_model").is_visible()
        visit.page.get_by_text("5 seeds, one by one").click()
        assert visit.page.get_by_role("row").filter(has_text="103").is_visible()
