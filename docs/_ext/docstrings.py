"""What autodoc is told: properties stand as they are written, and classes that nobody builds have no signature."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

BUILT_BY_USERS = {"graddoctor.Recipe"}
BEFORE_NAPOLEON, AFTER_NAPOLEON = 400, 600

_as_written: dict[str, list[str]] = {}


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc, before and after napoleon."""
    app.connect("autodoc-process-docstring", _keep, BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", _put_back, AFTER_NAPOLEON)
    app.connect("autodoc-process-signature", _only_where_called)
    app.connect("doctree-read", _dashes)
    return {"parallel_read_safe": True}


def _keep(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Remember sentences with a colon, of which napoleon would take the first half for a type."""
    if what in {"attribute", "property"}:
        _as_written[name] = list(lines)


def _put_back(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _as_written.pop(name, lines)


def _only_where_called(app: Sphinx, what: str, name: str, *rest: Any) -> tuple[str, None] | None:
    """Leave the signature out of classes that nobody builds by hand: their docstrings list the fields."""
    results = what == "class" and name.rpartition(".")[0] == "graddoctor" and name not in BUILT_BY_USERS
    return ("", None) if results else None


def _dashes(app: Sphinx, doctree: nodes.document) -> None:
    """Set the dash between a parameter and its text; smart quotes would do it, and flags would lose their hyphens."""
    for text in [text for text in doctree.findall(nodes.Text) if text == " -- "]:
        text.parent.replace(text, nodes.Text(" \N{EN DASH} "))
