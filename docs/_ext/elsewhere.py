"""Links that leave `docs/`: on GitHub they lead to a file of the repository, here to the page that shows that file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

LINK = re.compile(r"\]\((?P<path>\.\./[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
PLAIN = re.compile(r"src/graddoctor/remedies/plain/(\w+)\.py")
MEASURED = re.compile(r"benchmarks/results/\w+\.md")
PAGES = {"CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changes.md", "README.md": "index.md"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite such links in every page as it is read, and in what pages include."""
    app.connect("source-read", _rewrite)
    app.connect("include-read", _rewrite_included)
    return {"parallel_read_safe": True}


def _rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.srcdir, docname)
    source[0] = LINK.sub(lambda link: _here(Path(app.srcdir), page, link), source[0])


def _rewrite_included(app: Sphinx, relative: Path, docname: str, source: list[str]) -> None:
    _rewrite(app, docname, source)


def _here(docs: Path, page: Path, link: re.Match[str]) -> str:
    target = os.path.normpath(page.parent / link["path"])
    file = Path(os.path.relpath(target, docs.parent)).as_posix()
    if plain := PLAIN.fullmatch(file):
        return f"](#graddoctor.remedies.plain.{plain[1]})"
    home = "explanation/measurements.md" if MEASURED.fullmatch(file) else PAGES.get(file)
    return f"]({os.path.relpath(docs / home, page.parent)}{link['anchor'] or ''})" if home else link[0]
