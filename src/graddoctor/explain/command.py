"""What the verb `explain` needs beside the explanations: which one is meant, and a page in the browser."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from graddoctor.errors import GraddoctorError
from graddoctor.explain.of_report import explained
from graddoctor.explain.of_topic import topic
from graddoctor.show.explanation import Explanation, Level
from graddoctor.show.serial import load


def explanation(what: str, level: Level | None) -> Explanation:
    """Explain a saved report, where it is a path or ends in ``.json``, or else a topic."""
    path = Path(what)
    return explained(load(path), level) if path.suffix == ".json" or path.name != what else topic(what, level)


def levelled(name: str | None) -> Level | None:
    """Return the level of a name.

    Raises
    ------
    GraddoctorError
        There is none of this name.
    """
    for level in get_args(Level):
        if level == name:
            return level  # type: ignore[no-any-return]
    if name is not None:
        raise GraddoctorError(f"--level is student or engineer, got {name!r}")
    return None


def pages(out: Sequence[Path], *, show: bool, story: bool) -> list[Path]:
    """Where to write to; a temporary page beside it if one is to be shown and none is asked for.

    Raises
    ------
    GraddoctorError
        The whole problem is a page, and something else is asked for.
    """
    others = [path for path in out if path.suffix.lower() != ".html"]
    if story and others:
        raise GraddoctorError(f"cannot save the whole explanation as {str(others[0])!r}: its name should end in .html")
    if not show or len(others) < len(out):
        return [*out]
    return [*out, Path(tempfile.mkdtemp(prefix="graddoctor-")) / "explain.html"]


def opened(paths: Sequence[Path]) -> str:
    """Open the first page in the browser, and say where it is."""
    page = next(path for path in paths if path.suffix.lower() == ".html").resolve()
    shown = webbrowser.open(page.as_uri())
    return f"{page}" if shown else f"no browser could be started; the page is {page}"
