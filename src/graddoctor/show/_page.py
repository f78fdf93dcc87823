"""What pages are made of: how much detail, charts with their words, and the scripts that draw them."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from graddoctor.show import explanation_words
from graddoctor.show._axes import Chart
from graddoctor.show._templates import template
from graddoctor.show.palette import DARK, LIGHT
from graddoctor.show.words import topics_of


@dataclass(frozen=True)
class Detail:
    """How much of a report a page shows."""

    rows: int = 160
    parts: int = 60
    layers: int = 28
    names: int = 80
    steps: int = 60
    points: int = 900
    candidates: int = 60


DETAILS = (
    Detail(),
    Detail(rows=100, parts=24, layers=20, names=50, steps=40, points=600, candidates=40),
    Detail(rows=40, parts=8, layers=10, names=20, steps=20, points=200, candidates=24),
    Detail(rows=20, parts=0, layers=4, names=8, steps=10, points=100, candidates=12),
)


@dataclass(frozen=True)
class Figure:
    """A chart on the page: what it is, how to read it, and what a reader without eyes is told."""

    key: str
    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    notes: tuple[str, ...] = ()
    narrow: bool = False


def figure(
    key: str,
    title: str,
    chart: Chart,
    caption: str,
    *,
    told: str = "",
    notes: tuple[str, ...] = (),
    narrow: bool = False,
) -> Figure:
    """Make a chart fit the page; ``told`` is what only a reader without eyes needs to hear."""
    spec = chart.to_dict()
    spec |= {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}, "description": title}
    heard = " ".join(filter(None, (f"Chart: {title}.", caption, told)))
    return Figure(key, title, caption, heard, spec, notes, narrow)


def alone(figures: Sequence[Figure]) -> list[Figure]:
    """Widen a narrow figure that has no narrow neighbour."""
    narrow = [one for one in figures if one.narrow]
    return [replace(one, narrow=len(narrow) > 1) if one.narrow else one for one in figures]


def quick() -> Any:
    """Let Altair not check every data point; tests check the charts."""
    return alt.utils.schemapi.debug_mode(False)


def rendered(name: str, figures: Sequence[Figure], **values: Any) -> str:
    """Fill a template that stands on ``page.html.j2``."""
    return template(name).render(
        **values,
        figures=figures,
        topics=topics_of,
        explain=explanation_words,
        light=Markup(LIGHT.css()),  # noqa: S704 - our own colours
        dark=Markup(DARK.css()),  # noqa: S704 - our own colours
        specs=script_json({one.key: packed(one.spec) for one in figures}),
        bundle=_bundle() if figures else "",
    )


@functools.cache
def _bundle() -> Markup:
    """Vega, Vega-Lite and vega-embed as one script."""
    script = vl_convert.javascript_bundle(vl_version=_vegalite())  # type: ignore[call-arg]  # the stub lacks a default
    return Markup(script.replace("</script", "<\\/script"))  # noqa: S704 - a script of ours, closed to markup


def _vegalite() -> str:
    """The Vega-Lite that Altair writes for, as vl-convert names it: ``"6.1"``."""
    wanted = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    offered: list[str] = vl_convert.get_vegalite_versions()
    return wanted if wanted in offered else offered[-1]


def script_json(data: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped


def packed(spec: Any) -> Any:
    """Store every data table of a chart by columns, each text once; ``page.js`` unpacks it."""
    if isinstance(spec, dict):
        return {key: packed(value) for key, value in spec.items()}
    if not isinstance(spec, list):
        return spec
    if len(spec) > 1 and all(_is_row(row) and row.keys() == spec[0].keys() for row in spec):
        return {"columns": {name: _column([row[name] for row in spec]) for name in spec[0]}}
    return [packed(item) for item in spec]


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and not any(isinstance(cell, (dict, list)) for cell in row.values())


def _column(values: list[Any]) -> dict[str, Any]:
    if not all(isinstance(value, str) for value in values):
        return {"is": values}
    texts = {text: place for place, text in enumerate(dict.fromkeys(values))}
    return {"of": list(texts), "at": [texts[value] for value in values]}
