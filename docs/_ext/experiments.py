"""The pages of experiments, written from the saved runs of the lab when the site is built, and the table over them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import vl_convert
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from graddoctor.lab import EXPERIMENTS
from graddoctor.show import load
from graddoctor.show.lab import LabReport, Tried
from graddoctor.show.lab_charts import lab_chart, panels
from graddoctor.show.lab_markdown import experiment

RUNS = Path(__file__).parents[2] / "benchmarks" / "results" / "lab"


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known, and write the pages before they are looked for."""
    app.add_directive("experiments", Experiments)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}


@functools.cache
def saved() -> list[Tried]:
    """The experiments of which there is a saved run, in the order of the lab."""
    paths = [RUNS / f"{one.name}.json" for one in EXPERIMENTS]
    reports = [load(path) for path in paths if path.exists()]
    return [one for report in reports if isinstance(report, LabReport) for one in report.experiments]


def write(app: Sphinx) -> None:
    """Write a page and its pictures for each."""
    folder = Path(app.srcdir) / "experiments"
    for one in saved():
        (folder / f"{one.name}.md").write_text("\n\n".join(_page(one, folder)) + "\n", encoding="utf-8")


def _page(one: Tried, folder: Path) -> Iterator[str]:
    _, *blocks = experiment(one)
    yield f"# {one.title}"
    yield f"> {one.claim}"
    yield f"Verdict: **{one.verdict}**"
    for place, whole in enumerate(one.charts):
        for at, (name, chart) in enumerate(panels(whole)):
            drawn = lab_chart(chart, whole).properties(width=520, title=name)
            picture = f"{one.name}-{place}-{at}.svg"
            (folder / picture).write_text(vl_convert.vegalite_to_svg(drawn.to_json()), encoding="utf-8")
            told = f"{name}: {whole.y_title}" if name else whole.y_title
            yield f"![{told}]({picture})"
    yield from blocks
    yield f"Run it yourself: `graddoctor lab {one.name}`"


class Experiments(SphinxDirective):
    """What was found, claim by claim, and a table of contents over the pages."""

    def run(self) -> list[nodes.Node]:
        """Name the pages; where there are none, nothing."""
        found = saved()
        if not found:
            return []
        rows = [f"| [{one.title}](/experiments/{one.name}.md) | {one.claim} | {one.verdict} |" for one in found]
        table = ["| experiment | claim | verdict |", "| --- | --- | --- |", *rows]
        toctree = ["```{toctree}", ":hidden:", "", *(f"/experiments/{one.name}" for one in found), "```"]
        return self.parse_text_to_nodes("\n".join([*table, "", *toctree]))
