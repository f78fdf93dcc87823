"""The directive `experiments`: the pages of experiments that are there, of which there may be none."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("experiments", Experiments)
    return {"parallel_read_safe": True}


class Experiments(SphinxDirective):
    """A hidden table of contents over `experiments/`, and the page of the lab, if it is there, in front."""

    def run(self) -> list[nodes.Node]:
        """Name the pages; a plain `glob` would complain where it finds none."""
        own = self.env.docname
        pages = sorted(page for page in self.env.found_docs if page.startswith("experiments/") and page != own)
        found = [page for page in ("lab", *pages) if page in self.env.found_docs]
        entries = [f"/{page}" for page in found]
        toctree = ["```{toctree}", ":hidden:", "", *entries, "```"]
        return self.parse_text_to_nodes("\n".join(toctree)) if entries else []
