"""The pictures of an experiment: means over the seeds, and how far the seeds reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt

from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.lab import LabChart, Mark, Tried
from graddoctor.show.palette import LIGHT, SERIES, Palette

_FEW = 12  # points that are marked on a line


def panels(chart: LabChart) -> list[tuple[str, LabChart]]:
    """Split a chart by its panels; all of them keep the same axes."""
    names = list(dict.fromkeys(mark.panel for mark in chart.marks))
    return [(name, replace(chart, marks=tuple(mark for mark in chart.marks if mark.panel == name))) for name in names]


def lab_picture(one: Tried, palette: Palette = LIGHT) -> Chart | None:
    """Draw an experiment's first chart alone, its panels side by side."""
    if not one.charts:
        return None
    whole = one.charts[0]
    drawn = [
        lab_panel(chart, whole, palette).properties(width=360, height=260, title=name) for name, chart in panels(whole)
    ]
    return axes.finish(drawn[0] if len(drawn) == 1 else alt.hconcat(*drawn), palette)


def lab_chart(chart: LabChart, whole: LabChart, palette: Palette = LIGHT) -> Chart:
    """Draw one panel, on the axes of the whole chart."""
    return axes.finish(lab_panel(chart, whole, palette).properties(height=260), palette)


def lab_panel(chart: LabChart, whole: LabChart, palette: Palette) -> alt.LayerChart:
    """Draw means and their spread."""
    rows = [_row(mark) for mark in chart.marks if _drawable(mark, chart)]
    names = list(dict.fromkeys(mark.by for mark in whole.marks))
    base = alt.Chart(axes.data(rows)).encode(x=_x(whole), color=_colour(names))
    layers = _bars(base, whole, names) if chart.kind == "bars" else _lines(base, whole, rows)
    if any(row["expected"] is not None for row in rows):
        layers.append(_theory(base, whole, rows, palette))
    return alt.LayerChart(layer=layers)


def _drawable(mark: Mark, chart: LabChart) -> bool:
    seen = (mark.y, mark.low, mark.high) if chart.log_y else ()
    return math.isfinite(mark.y) and all(value > 0 for value in seen) and (mark.x > 0 or not chart.log_x)


def _row(mark: Mark) -> dict[str, Any]:
    return {
        "x": mark.x_name or axes.short(mark.x),
        "by": mark.by,
        "y": axes.short(mark.y),
        "low": axes.short(mark.low),
        "high": axes.short(mark.high),
        "expected": None if mark.expected is None else axes.short(mark.expected),
    }


def _lines(base: alt.Chart, chart: LabChart, rows: Sequence[dict[str, Any]]) -> list[Any]:
    point = len({row["x"] for row in rows}) <= _FEW
    y = _y(chart)
    return [
        base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_line(strokeWidth=2, point=point).encode(y=alt.Y("y:Q", **y), tooltip=_tips(chart)),
    ]


def _bars(base: alt.Chart, chart: LabChart, names: Sequence[str]) -> list[Any]:
    y = _y(chart)
    beside = base.encode(xOffset=alt.XOffset("by:N", sort=list(names))) if len(names) > 1 else base
    mark = beside.mark_point(filled=True, size=70) if chart.log_y else beside.mark_bar()
    ends = beside.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", **y), y2="high:Q", color=alt.value("gray"))
    return [mark.encode(y=alt.Y("y:Q", **y), tooltip=_tips(chart)), ends]


def _tips(chart: LabChart) -> list[alt.Tooltip]:
    """What a pointer is told."""
    words = chart.kind == "bars" or any(mark.x_name for mark in chart.marks)
    named = [alt.Tooltip("by:N", title=" ")] if any(mark.by for mark in chart.marks) else []
    numbers = [("y", chart.y_title), ("low", "lowest"), ("high", "highest")]
    x = alt.Tooltip("x:N" if words else "x:Q", title=chart.x_title)
    return [*named, x, *(alt.Tooltip(f"{field}:Q", title=title) for field, title in numbers)]


def _theory(base: alt.Chart, chart: LabChart, rows: Sequence[dict[str, Any]], palette: Palette) -> Any:
    alone = chart.kind == "bars" or len({row["x"] for row in rows}) == 1
    mark = base.mark_tick(thickness=2, size=14) if alone else base.mark_line(strokeDash=[4, 3], strokeWidth=1.5)
    drawn = mark.encode(y=alt.Y("expected:Q", **_y(chart)), color=alt.value(palette.ink), detail="by:N")
    return drawn.transform_filter("isValid(datum.expected)")


def _x(chart: LabChart) -> alt.X:
    words = [mark.x_name for mark in sorted(chart.marks, key=lambda mark: mark.x) if mark.x_name]
    if words or chart.kind == "bars":
        axis = alt.Axis(labelAngle=0, labelLimit=160, grid=False)
        return alt.X("x:N", title=chart.x_title, sort=list(dict.fromkeys(words)) or None, axis=axis)
    places = [mark.x for mark in chart.marks if mark.x > 0 or not chart.log_x]
    scale = alt.Scale(
        type="log" if chart.log_x else "linear", domain=[min(places), max(places)], nice=False, zero=False
    )
    every = sorted(set(places))
    return alt.X(
        "x:Q",
        title=chart.x_title,
        scale=scale,
        axis=alt.Axis(grid=False, format=".4~r", values=every if len(every) <= _FEW else alt.Undefined),
    )


def _y(chart: LabChart) -> dict[str, Any]:
    """One axis for all panels."""
    marks = [mark for mark in chart.marks if _drawable(mark, chart)]
    values = [value for mark in marks for value in (mark.low, mark.high, mark.expected) if value is not None]
    if chart.log_y and values:
        return axes.ratio_y(chart.y_title, values)
    low, high = min(values, default=0.0), max(values, default=1.0)
    low, high = (min(low, 0.0), max(high, 0.0)) if chart.kind == "bars" else (low, high)
    scale = alt.Scale(domain=[axes.short(low), axes.short(high)], nice=True, zero=False)
    return {"title": chart.y_title, "scale": scale}


def _colour(names: Sequence[str]) -> Any:
    colours = [SERIES[place % len(SERIES)] for place in range(len(names))]
    if len(names) < 2:  # noqa: PLR2004 - one line needs no legend
        return alt.value(colours[0])
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=280, symbolOpacity=1, symbolType="circle")
    return alt.Color("by:N", scale=alt.Scale(domain=list(names), range=colours), legend=legend)
