"""Code on a page: coloured by what its words are, and still text that can be copied."""

from __future__ import annotations

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

LONGEST = 60_000
"""Characters beyond which code stays plain, so that its page stays small."""


def coloured(text: str, language: str) -> Markup:
    """Give code as HTML whose classes ``style.css`` colours; control characters are dropped."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)
    if len(shown) > LONGEST:
        return escape(shown)
    lexer = get_lexer_by_name(language, stripnl=False)
    return Markup(highlight(shown, lexer, HtmlFormatter(nowrap=True)))  # noqa: S704 - escaped by Pygments
