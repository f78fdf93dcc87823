"""The edge between vanishing and exploding: decades a layer, by the scale of the weights."""

from __future__ import annotations

import math
from itertools import pairwise

import altair as alt
import numpy as np

from graddoctor.explain.picture import Picture, Rows, adjustable, coloured, decades_y, finite, ruled
from graddoctor.explain.pictures.flow import ACTIVATION, ACTIVATIONS, DEPTHS, FLOW, SCALES
from graddoctor.lab.table import Row, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart

_CONTROLS = (ACTIVATION,)
_DEEP = max(DEPTHS)


def draw(table: Table) -> Chart:
    """Draw theory as lines and networks as dots, the chosen activation in front."""
    ticks = alt.Axis(values=[0.4, 0.6, 0.8, 1, 1.4, 2, 3, 4], format="~g")
    decades = alt.Scale(type="log", domain=[min(SCALES), max(SCALES)])
    x = alt.X("scale:Q", title="scale of the weights, σ_w (log)", scale=decades, axis=ticks)
    y = decades_y("decades", "gradient gained or lost in a layer, decades", -1.2, 0.8, format="+.1f")
    colour = coloured("activation", tuple(ACTIVATIONS))
    strong = alt.condition("datum.activation == activation", alt.value(1.0), alt.value(0.22))
    base = alt.Chart(axes.data(_rows(table))).transform_filter("isValid(datum.decades)")
    tips = [alt.Tooltip(f"{name}:{kind}") for name, kind in (("activation", "N"), ("scale", "Q"), ("decades", "Q"))]
    lines = (
        base.transform_filter("datum.what == 'theory'")
        .mark_line(strokeWidth=2, clip=True)
        .encode(x=x, y=y, color=colour, opacity=strong)
    )
    dots = (
        base.transform_filter("datum.what == 'measured'")
        .mark_point(filled=True, size=55, clip=True)
        .encode(x=x, y=y, color=colour, opacity=strong, tooltip=tips)
    )
    return adjustable([ruled(), lines, dots], _CONTROLS)


def _rows(table: Table) -> Rows:
    return [
        {**row.arm, "what": what, "decades": finite(value)}
        for row in table.rows
        for what, value in (("theory", row.number("theory")), ("measured", per_layer(row)))
    ]


def per_layer(row: Row) -> float:
    """Decades a layer in the deepest network: the slope of the line through its hidden layers."""
    profile = np.array(row.curve(f"gradient {_DEEP}"))
    seen = np.isfinite(profile)
    places = np.arange(len(profile))[seen]
    return -float(np.polyfit(places, profile[seen], 1)[0]) if len(places) > 1 else math.nan


def told(table: Table, activation: str) -> str:
    """Where the edge is, or that there is none among the scales that were tried."""
    rates = {row.arm["scale"]: row.number("theory") for row in table.where(activation=activation).rows}
    name = "Without an activation" if activation == "none" else f"With {activation}"
    for (low, before), (high, after) in pairwise(sorted(rates.items())):
        if before <= 0 <= after and before < after:
            edge = low * (high / low) ** (-before / (after - before))
            return f"{name} the gradient keeps its size near σ_w = {edge:.2f}; below it vanishes, above it explodes."
    best = min(rates, key=lambda scale: abs(rates[scale]))
    return f"{name} none of these scales keeps it: the best, {best}, changes it by {rates[best]:+.2f} decades a layer."


EDGE = Picture(
    "edge",
    "The edge between vanishing and exploding",
    f"Lines: theory. Dots: networks of {_DEEP} layers. Below zero the gradient vanishes, above it explodes.",
    FLOW,
    _CONTROLS,
    draw,
    told,
)
