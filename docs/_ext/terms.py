"""The directive `terms NAME`: a public enumeration, each member with the sentence that users read."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import graddoctor


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("terms", Terms)
    return {"parallel_read_safe": True}


class Terms(SphinxDirective):
    """Entries as autodoc makes them; it does not see docstrings that members are given at run time."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Write the entries down as a page would, and have them parsed."""
        name = self.arguments[0]
        kind = getattr(graddoctor, name)
        head = [f".. py:class:: graddoctor.{name}", f"   :canonical: {kind.__module__}.{name}"]
        lines = ["```{eval-rst}", *head, "", f"   {inspect.getdoc(kind)}", ""]
        for member in kind:
            lines += [f"   .. py:attribute:: {member.name}", f"      :value: {member.value!r}", ""]
            lines += [f"      {member.sentence}", ""]
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))
