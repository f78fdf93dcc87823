"""The site is built from the pages: without a warning, without the network, with every public name and every flag."""

import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main

import graddoctor
from graddoctor.cli import app
from graddoctor.config import Settings
from graddoctor.remedies import plain
from graddoctor.show.palette import DARK, LIGHT
from graddoctor.terms import Cause, Condition

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
SCHEMAS = list((Path(graddoctor.__file__).parent / "show").glob("*schema.json"))
VERBS = typer.main.get_command(app).commands
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    built = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(built / "doctrees"), str(DOCS)]
    done = subprocess.run(
        [sys.executable, *command, str(built / "html")], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return built / "html"


class Page(HTMLParser):
    """What a page fetches, which anchors it has, and its headings of the first level."""

    def __init__(self, file):
        super().__init__()
        self.fetched, self.ids, self.titles = [], set(), 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        self.titles += tag == "h1"
        if tag in FETCHED and (address := given.get(FETCHED[tag])):
            self.fetched.append(address)


def read(site, name):
    return (site / name).read_text(encoding="utf-8")


def test_every_page_is_there_with_one_title(site):
    for source in DOCS.rglob("*.md"):
        page = site / source.relative_to(DOCS).with_suffix(".html")
        title = re.search(r"<title>(.*?)</title>", page.read_text(encoding="utf-8"))[1]
        assert "graddoctor" in title
        assert "&lt;no title&gt;" not in title, source
        assert Page(page).titles == 1, source


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        for address in Page(page).fetched:
            assert not re.match(r"(https?:)?//", address), f"{page.name} fetches {address}"
            path = address.partition("?")[0].partition("#")[0]
            assert path.startswith("data:") or (page.parent / path).exists(), f"{page.name} has no {address}"
    for style in site.rglob("*.css"):
        for address in re.findall(r"url\(([^)]*)\)|@import\s+([^;]+)", style.read_text(encoding="utf-8")):
            assert "//" not in "".join(address).partition("data:")[0], style.name


def test_links_within_the_site_lead_somewhere(site):
    pages = {page: Page(page) for page in site.rglob("*.html")}
    for page in pages:
        for link in re.findall(r'href="([^"#:]*)#([^"]+)"', page.read_text(encoding="utf-8")):
            target, anchor = (page.parent / link[0]).resolve() if link[0] else page, html.unescape(link[1])
            if target in pages:
                assert anchor in pages[target].ids, f"{page.name}: no {anchor} in {target.name}"


def test_every_public_name_has_its_entry(site):
    anchors = Page(site / "reference" / "python.html").ids
    zoo = Page(site / "reference" / "zoo.html").ids
    assert {f"graddoctor.{name}" for name in graddoctor.__all__ if name != "testing"} <= anchors
    assert {f"graddoctor.testing.{name}" for name in graddoctor.testing.__all__} <= zoo
    assert {"graddoctor.Recipe.with_", "graddoctor.Checkup.save", "graddoctor.Cure.apply"} <= anchors


def test_every_word_of_a_diagnosis_has_its_sentence(site):
    page = html.unescape(re.sub(r"<[^>]+>", "", read(site, "reference/python.html")))
    for member in (*Condition, *Cause):
        assert member.sentence in page


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_flag_is_told(site, verb):
    page = read(site, "reference/command-line.html")
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert f'<section id="{verb}">' in page
    assert VERBS[verb].help in text
    for parameter in VERBS[verb].params:
        assert parameter.help.replace("`", "") in text
        for flag in (*parameter.opts, *parameter.secondary_opts):
            if flag.startswith("-"):
                assert f'id="cmdoption-graddoctor-{verb}-{flag.lstrip("-")}"' in page, flag


def test_every_key_of_the_configuration_is_told():
    table = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize("file", sorted(SCHEMAS), ids=lambda file: file.name)
def test_every_member_of_the_schemas_is_told(site, file):
    schema = json.loads(file.read_text(encoding="utf-8"))
    start = f'<section id="{file.name.replace(".", "-")}">'
    page = read(site, "reference/schemas.html").partition(start)[2].partition("</h2>")[2].partition("<h2>")[0]
    assert schema["description"].replace("`", "") in html.unescape(re.sub(r"<[^>]+>", "", page))
    for one in (schema, *schema["$defs"].values()):
        for member in one.get("properties", ()):
            assert f">{member}</span></code>" in page, member


def test_every_file_of_plain_functions_is_told(site):
    anchors = Page(site / "reference" / "plain.html").ids
    files = [file.stem for file in Path(plain.__path__[0]).glob("[a-z]*.py")]
    assert len(files) > 20
    assert {f"module-graddoctor.remedies.plain.{file}" for file in files} <= anchors


def test_words_are_found(site):
    index = read(site, "searchindex.js")
    for word in ("sigmoid", "checkup", "graddoctor.fix"):
        assert word in index


def test_pages_come_in_the_colours_of_the_reports(site):
    page = read(site, "index.html")
    for colours in (LIGHT, DARK):
        assert f"--color-background-primary: {colours.paper}" in page
        assert f"--color-foreground-primary: {colours.ink}" in page


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_in_silence_and_finds_words(site, scheme):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    said, asked = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.goto(f"{(site / 'search.html').as_uri()}?q=sigmoid")
        page.wait_for_selector("#search-results li a", timeout=30_000)
        browser.close()
    wanted = (LIGHT if scheme == "light" else DARK).paper
    assert paper == "rgb({}, {}, {})".format(*bytes.fromhex(wanted[1:]))
    assert said == []
    assert all(address.startswith("file:") for address in asked)
