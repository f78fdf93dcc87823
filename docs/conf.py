"""How the site is built. Nothing is fetched, and warnings are errors.

sphinx-build -W --keep-going -n docs docs/_build/html
"""

from __future__ import annotations

import sys
from pathlib import Path

from graddoctor import __version__
from graddoctor.show import palette

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "graddoctor"
author = "the authors of graddoctor"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    # beside this file, in _ext
    "command_line",
    "docstrings",
    "elsewhere",
    "experiments",
    "schemas",
    "terms",
]
exclude_patterns = ["_build", "_ext", "images/*.py"]

# Pages are Markdown that reads well without Sphinx: anchors are those of GitHub, and nothing else is switched on.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True  # fields are told once, in the docstring of their class
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "code"  # in docstrings `name` is a name, as in Markdown

nitpicky = True
nitpick_ignore_regex = [
    # Inventories of other projects would have to be fetched, and the site is built without a network.
    (r"py:.*", r"(torch|numpy|np|nn|networkx|alt|altair|collections|contextlib|os|pathlib|enum|abc|types|typing)\..*"),
    (r"py:class", r"(Module|Tensor|Parameter|Optimizer|LRScheduler|ndarray|NDArray|DiGraph|Chart|PathLike|Path)"),
    # Names that are not public: they stand in signatures and have no entry of their own.
    (r"py:.*", r"graddoctor\.(observe|recording|recipe|prove|treat|theory|show|diagnose|remedies|train|check|fix)\..*"),
    (r"py:class", r"[A-Z]\w*"),
]

smartquotes = False  # flags begin with two hyphens

pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

html_theme = "furo"
html_title = "graddoctor"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # a page that was opened from a folder may not read the others
html_show_sphinx = False


def furo(colours: palette.Palette) -> dict[str, str]:
    """Give furo's style variables the colours of the reports."""
    return {
        "font-stack": palette.FONT,
        "color-background-primary": colours.paper,
        "color-background-secondary": colours.card,
        "color-background-hover": colours.soft,
        "color-background-hover--transparent": f"{colours.soft}00",
        "color-background-border": colours.line,
        "color-background-item": colours.line,
        "color-foreground-primary": colours.ink,
        "color-foreground-secondary": colours.quiet,
        "color-foreground-muted": colours.quiet,
        "color-foreground-border": colours.quiet,
        "color-brand-primary": colours.accent,
        "color-brand-content": colours.accent,
        "color-brand-visited": colours.accent,
        "color-api-name": colours.ink,
        "color-api-pre-name": colours.quiet,
        "color-highlighted-background": colours.soft,
        "color-card-background": colours.card,
        "color-code-background": colours.card,
        "color-code-foreground": colours.ink,
        "color-highlight-on-target": colours.soft,
    }


html_theme_options = {
    "light_css_variables": furo(palette.LIGHT),
    "dark_css_variables": furo(palette.DARK),
    "navigation_with_keys": True,
}
