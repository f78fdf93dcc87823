"""The page: one HTML file that needs no network, readable in light and dark, on paper, on phones, without scripts."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from graddoctor.show import charts, words
from graddoctor.show._axes import Chart, states
from graddoctor.show._templates import template
from graddoctor.show.names import BESIDE, readable
from graddoctor.show.palette import DARK, LIGHT, PAGE
from graddoctor.show.report import Part, Report, Row, Waterfall
from graddoctor.show.thin import fold, pick, thin_heat, thin_losses, thin_updates

LIMIT = 1_450_000
"""Bytes that a page may have; a larger report is shown in less detail."""


@dataclass(frozen=True)
class Detail:
    """How much of a report a page shows."""

    rows: int = 160
    parts: int = 60
    layers: int = 28
    names: int = 80
    steps: int = 60
    points: int = 900


_DETAILS = (
    Detail(),
    Detail(rows=100, parts=24, layers=20, names=50, steps=40, points=600),
    Detail(rows=40, parts=8, layers=10, names=20, steps=20, points=200),
    Detail(rows=20, parts=0, layers=4, names=8, steps=10, points=100),
)


def to_html(report: Report) -> str:
    """Give a report as one self-contained page of less than 1.5 MB."""
    page, report = "", readable(report)
    for detail in _DETAILS:
        page = _page(report, detail)
        if len(page.encode()) < LIMIT:
            break
    return page


def _page(report: Report, detail: Detail) -> str:
    with alt.utils.schemapi.debug_mode(False):  # Altair would check every data point; tests check the charts
        figures = _alone(list(_figures(report, detail)))
    return template("report.html.j2").render(
        report=report,
        words=words,
        light=Markup(LIGHT.css()),  # noqa: S704 - our own colours
        dark=Markup(DARK.css()),  # noqa: S704 - our own colours
        budget=None if report.budget is None or not report.budget.rows else _ledger(report.budget, detail),
        figures=figures,
        specs=_script_json({figure.key: _packed(figure.spec) for figure in figures}),
        bundle=_bundle(),
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


def _script_json(data: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped


def _packed(spec: Any) -> Any:
    """Store every data table of a chart by columns, each text once; ``page.js`` unpacks it."""
    if isinstance(spec, dict):
        return {key: _packed(value) for key, value in spec.items()}
    if not isinstance(spec, list):
        return spec
    if len(spec) > 1 and all(_is_row(row) and row.keys() == spec[0].keys() for row in spec):
        return {"columns": {name: _column([row[name] for row in spec]) for name in spec[0]}}
    return [_packed(item) for item in spec]


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and not any(isinstance(cell, (dict, list)) for cell in row.values())


def _column(values: list[Any]) -> dict[str, Any]:
    if not all(isinstance(value, str) for value in values):
        return {"is": values}
    texts = {text: place for place, text in enumerate(dict.fromkeys(values))}
    return {"of": list(texts), "at": [texts[value] for value in values]}


# --- figures ---------------------------------------------------------------------------------------------------------


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


def _figures(report: Report, detail: Detail) -> Iterator[Figure]:
    if report.losses is not None and report.losses.steps:
        chart = charts.loss_chart(thin_losses(report.losses, detail.points), report.events[:50], PAGE)
        notes = tuple(f"Step {event.step}: {event.text}" for event in report.events[:50])
        caption = "A network below the dashed line has learned more than a constant answer."
        yield _figure("loss", "Loss", chart, f"{words.loss(report.losses)} {caption}", notes=notes)
    if report.heat is not None and report.heat.names and report.heat.steps:
        chart = charts.heat_chart(thin_heat(report.heat, detail.names, detail.steps), PAGE)
        caption = (
            "Depth by step, the loss at the top, the input at the bottom. Even colour means that all layers learn; "
            "a fade towards the bottom means that the first ones do not."
        )
        yield _figure("heat", "Gradient over depth and time", chart, caption)
    layers = [report.activations[i] for i in pick(len(report.activations), detail.layers)]
    if any(state.shares for layer in layers for _, state in states(layer)):
        chart = charts.distribution_chart(layers, PAGE)
        caption = (
            "What each layer puts out, at the start and at the end. Heights are roots of densities: tails show too."
        )
        yield _figure("distributions", "Activations", chart, caption, narrow=True)
    if any((state.dead, state.saturated) != (None, None) for layer in layers for _, state in states(layer)):
        chart = charts.saturation_chart(layers, PAGE)
        caption = "Saturated values and dead units pass no gradient. Bars when last seen, ticks at the start."
        yield _figure("saturation", "Saturated and dead", chart, caption, narrow=True)
    if report.updates is not None and any(value is not None for row in report.updates.values for value in row):
        chart = charts.update_chart(thin_updates(report.updates, detail.names // 2, detail.steps), PAGE)
        low, high = (words.power(edge) for edge in report.updates.band)
        caption = (
            f"How far one step moves each parameter, relative to its size. Most healthy trainings stay between {low} "
            f"and {high}; far below, nothing is learned; far above, nothing is kept."
        )
        yield _figure("updates", "Update-to-weight ratio", chart, caption)


def _alone(figures: list[Figure]) -> list[Figure]:
    """Widen a narrow figure that has no narrow neighbour."""
    narrow = [figure for figure in figures if figure.narrow]
    return [replace(figure, narrow=len(narrow) > 1) if figure.narrow else figure for figure in figures]


def _figure(
    key: str, title: str, chart: Chart, caption: str, *, notes: tuple[str, ...] = (), narrow: bool = False
) -> Figure:
    spec = chart.to_dict()
    spec |= {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}, "description": title}
    return Figure(key, title, caption, f"Chart: {title}. {caption}", spec, notes, narrow)


# --- the budget ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One row of the budget as it is drawn: where its bar begins and how long it is, in percent of the track."""

    row: Row
    name: str
    beside: str
    value: str
    begin: float
    length: float
    tone: str
    signal: str
    signal_length: float
    share: float
    parts: tuple[tuple[int, Part], ...]
    hidden: int
    shared: bool


@dataclass(frozen=True)
class Ledger:
    """The budget as it is drawn, from the loss down to the input."""

    bars: tuple[Bar, ...]
    low: float
    high: float
    with_signal: bool
    waterfall: Waterfall


def _ledger(waterfall: Waterfall, detail: Detail) -> Ledger:
    rows = fold(waterfall.rows, detail.rows)[::-1]
    edges = [0.0]
    for row in rows:
        edges.append(edges[-1] + (row.decades or 0.0))
    low, high = min(edges), max(edges)
    span = (high - low) or 1.0
    loudest = max((abs(row.signal_decades) for row in rows if row.signal_decades is not None), default=0.0) or 1.0
    bars = []
    names = words.fitted([row.name for row in rows], 30)
    for name, row, start, end in zip(names, rows, edges, edges[1:], strict=False):
        parts = tuple(_flat(row.parts))
        head, _, beside = name.partition(BESIDE)
        bars.append(
            Bar(
                row=row,
                name=head,
                beside=beside,
                value=words.row_value(row, waterfall),
                begin=round(100 * (min(start, end) - low) / span, 2),
                length=round(100 * abs(end - start) / span, 2),
                tone=_tone(row, waterfall),
                signal=words.signed(row.signal_decades),
                signal_length=round(100 * abs(row.signal_decades or 0.0) / loudest, 2),
                share=_share(row, waterfall),
                parts=parts[: detail.parts],
                hidden=max(len(parts) - detail.parts, 0),
                shared=any(part.share is not None for _, part in parts),
            )
        )
    with_signal = any(row.signal_decades is not None for row in rows)
    return Ledger(tuple(bars), low, high, with_signal, replace(waterfall, rows=()))


def _tone(row: Row, waterfall: Waterfall) -> str:
    if row.name == waterfall.cut:
        return "cut"
    return "unknown" if row.decades is None else "lost" if row.decades < 0 else "gained"


def _share(row: Row, waterfall: Waterfall) -> float:
    """What part of the total a row is; ``nan`` where that says nothing."""
    if row.decades is None or abs(waterfall.total) < 0.5:  # noqa: PLR2004 - half a decade is no loss to share out
        return math.nan
    share = row.decades / waterfall.total
    return share if share > 0 else math.nan


def _flat(parts: tuple[Part, ...], depth: int = 0) -> Iterator[tuple[int, Part]]:
    for part in parts:
        yield depth, part
        yield from _flat(part.parts, depth + 1)
