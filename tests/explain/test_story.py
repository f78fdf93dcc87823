"""The page of the whole problem: complete, small, silent, and alive in a real browser."""

import re
import shutil
from itertools import pairwise

import pytest

from graddoctor.errors import GraddoctorError
from graddoctor.explain import story
from graddoctor.explain.lively import raised
from graddoctor.explain.picture import Control, Picture, Study, adjustable
from graddoctor.explain.pictures import PICTURES, training
from graddoctor.lab.experiment import cross
from graddoctor.show.palette import DARK, LIGHT
from graddoctor.topics import every

pytest.importorskip("sklearn")
pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
LARGEST = 3_000_000  # bytes


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as users get it, but for trainings that are a tenth as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "EPOCHS", 2)
        patch.setattr(training, "POINTS", 11)
        path = tmp_path_factory.mktemp("story") / "story.html"
        told = []
        story.save_story([path], workers=0, progress=lambda *said: told.append(said))
    assert told[0][1] == 0
    assert told[-1][1] == told[-1][2] == len(told) - 1
    return path


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


def test_it_is_small_and_asks_for_nothing(page, text):
    assert page.stat().st_size < LARGEST
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', markup)
    assert "default-src 'none'" in markup


def test_every_picture_and_every_topic_has_its_place(text):
    for picture in PICTURES:
        assert text.count(f'data-lively="{picture.name}"') == 1
    for topic in every():
        assert text.count(f'id="{topic.name}"') == 1, topic.name
    assert text.count('role="math"') == 4


def test_links_lead_to_what_is_there_and_headings_step_down(text):
    anchors = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(anchors)) == len(anchors)
    assert {*re.findall(r'href="#([^"]+)"', text)} <= {*anchors}
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_control_has_its_label_and_every_picture_its_words(text):
    controls = re.findall(r'<(?:input|select)[^>]*\bid="([^"]+)"', text)
    assert len(controls) == sum(len(picture.controls) for picture in PICTURES)
    assert {*controls} == {*re.findall(r'<label for="([^"]+)"', text)}
    assert len(re.findall(r'role="img" aria-label="Chart: [^"]{40,}"', text)) == len(PICTURES)


def toy(**parts):
    control = Control("size", "size", (1, 2, 3), 2, "units")
    study = Study("toys", lambda seed, size: {"value": float(size)}, cross(size=(1, 2, 3)))
    given = {
        "controls": (control,),
        "draw": lambda _: adjustable([], (control,)),
        "told": lambda table, size: f"{size}",
    }
    return Picture(**{"name": "profile", "title": "A toy", "caption": "None.", "study": study, **given, **parts})


def test_a_picture_that_fails_is_an_error_and_no_page(tmp_path):
    def broken(**_):
        raise GraddoctorError("no weights today")

    sick = Study("toys", broken, ({"size": 1},))
    with pytest.raises(GraddoctorError, match="no weights today"):
        story.story([toy(study=sick)], workers=0)
    assert story._problem("", tmp_path).startswith("cannot write the page to")


def test_runs_of_a_study_are_shared_and_in_order():
    one = toy()
    tables = story.perform([one.study], 0, lambda *_: None)
    assert tables["toys"].of("value", size=3).tolist() == [3.0]
    assert [row.arm["size"] for row in tables["toys"].rows] == [1, 2, 3]


def test_powers_of_ten_are_set_as_such():
    assert raised("10^-17 and 2^8, not x^8") == "10⁻¹⁷ and 2⁸, not x^8"


def contrast(one, other):
    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_controls_can_be_read(palette):
    for paper in (palette.paper, palette.card):
        assert all(contrast(colour, paper) >= 4.5 for colour in (palette.ink, palette.quiet, palette.accent))


@pytest.fixture(scope="module")
def chromium():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=[(390, "light"), (1200, "dark")], ids=["telephone", "desk in the dark"])
def visit(request, chromium, page):
    width, scheme = request.param
    said, asked = [], []
    shown = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    shown.wait_for_selector("html[data-drawn]", timeout=60_000)
    yield shown
    shown.close()
    assert said == []
    assert asked == [page.as_uri()]


@pytest.mark.browser
def test_every_slider_and_list_moves_its_chart_and_its_words(visit):
    assert visit.evaluate("document.documentElement.scrollWidth") <= visit.viewport_size["width"]
    for picture in PICTURES:
        figure = visit.locator(f"[data-lively={picture.name}]")
        assert figure.locator(".chart svg").count() == 1
        for control in picture.controls:
            before = (figure.locator(".chart").inner_html(), figure.locator(".said").text_content())
            held = figure.locator(f"[data-control={control.name}]")
            if control.is_list:
                held.select_option(label=control.values[1 if control.start == control.values[0] else 0])
            else:
                held.focus()
                visit.keyboard.press("End" if control.start != control.values[-1] else "Home")
            visit.wait_for_function(
                "([key, before]) => document.querySelector(`#chart-${key}`).innerHTML !== before",
                arg=[picture.name, before[0]],
                timeout=10_000,
            )
            assert figure.locator(".said").text_content() != before[1], f"{picture.name}: {control.name}"


@pytest.mark.browser
def test_the_keyboard_reaches_everything_and_values_are_spoken(visit):
    visit.keyboard.press("Tab")
    assert visit.evaluate("document.activeElement.textContent") == "Skip to the story"
    depth = visit.locator("#profile-depth")
    depth.focus()
    visit.keyboard.press("Home")
    assert depth.get_attribute("aria-valuetext") == "3 layers"
    assert visit.locator("output[for=profile-depth]").text_content() == "3 layers"
    assert visit.get_by_label("depth", exact=True).count() == sum(
        control.label == "depth" for picture in PICTURES for control in picture.controls
    )


@pytest.mark.browser
def test_a_link_to_a_topic_opens_it(visit):
    visit.evaluate("location.hash = '#dead-units'")
    visit.get_by_text("A ReLU whose input is negative for").wait_for(state="visible", timeout=5_000)
