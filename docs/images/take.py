"""Take the pictures of this folder anew: the pages of examples/deep_sigmoid.py, and a figure of the page of `explain`.

    python docs/images/take.py

Needs playwright, which the extra `test` brings, and a Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

import graddoctor as gd
from graddoctor.explain.story import save_story

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "deep_sigmoid.py"
WIDTH, MARGIN = 1040, 32


def take_figure(page: Page, story: Path, key: str, picture: Path) -> None:
    """Photograph one figure of the page of the whole problem, as it stands at first."""
    page.goto(story.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=30_000)
    page.locator(f"[data-lively={key}]").screenshot(path=picture)


def take(page: Page, report: Path, last: str, picture: Path) -> None:
    """Photograph a page down to the end of the section with the heading `last` (its id)."""
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=30_000)
    box = page.locator(f"section[aria-labelledby={last}]").bounding_box()
    if box is None:
        raise SystemExit(f"expected a section {last} in {report.name}, got a page without one")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + MARGIN}
    page.screenshot(path=picture, full_page=True, clip=clip)


def main() -> None:
    """Check the example, fix it, build the page of the whole problem, and photograph all three."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    recipe = gd.load_recipe(str(EXAMPLE))
    checkup = gd.check(recipe)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = Path(folder, "checkup.html"), Path(folder, "cure.html")
        checkup.save(pages[0])
        gd.fix(recipe, checkup=checkup).save(pages[1])
        story = Path(folder, "story.html")
        save_story([story])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        take(page, pages[0], "budget-title", HERE / "report.png")
        take(page, pages[1], "proof-title", HERE / "cure.png")
        take_figure(page, story, "cures", HERE / "explain.png")
        browser.close()


if __name__ == "__main__":
    main()
