"""The gradient at every layer: a product of one Jacobian a layer, on the way back."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from graddoctor.explain.figures import sized
from graddoctor.explain.picture import Picture, Rows, adjustable, chosen, decades_y, depth_x, finite, ruled
from graddoctor.explain.pictures.flow import ACTIVATION, DEPTH, DEPTHS, FLOW, SCALE
from graddoctor.lab.table import Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE
from graddoctor.show.words import signed

_CONTROLS = (ACTIVATION, SCALE, DEPTH)
_LOW, _HIGH = -20, 10


def draw(table: Table) -> Chart:
    """Draw measured decades as dots, and what theory expects as a dashed line."""
    measured = axes.data([*_measured(table)])
    x = depth_x("layer", "layer, from the input")
    y = decades_y("decades", "gradient against the last hidden layer, decades", _LOW, _HIGH)
    here = alt.Chart(measured).transform_filter(f"{chosen('activation', 'scale', 'depth')} && isValid(datum.decades)")
    tips = [alt.Tooltip("layer:Q", title="layer"), alt.Tooltip("decades:Q", title="decades", format="+.2f")]
    dots = here.mark_line(point=alt.OverlayMarkDef(color=PAGE.lost), color=PAGE.lost, strokeWidth=2, clip=True).encode(
        x=x, y=y, tooltip=tips
    )
    theory = (
        alt.Chart(axes.data(_theory(table)))
        .transform_filter(chosen("activation", "scale"))
        .transform_calculate(ends="[1, depth - 1]")
        .transform_flatten(["ends"], ["layer"])
        .transform_calculate(decades="datum.rate * (depth - 1 - datum.layer)")
        .mark_line(strokeDash=[5, 4], color=PAGE.ink, strokeWidth=1.5, clip=True)
        .encode(x=x, y=y)
    )
    return adjustable([ruled(), dots, theory], _CONTROLS)


def _measured(table: Table) -> Rows:
    return [
        {**row.arm, "depth": depth, "layer": place + 1, "decades": finite(decades, 2)}
        for row in table.rows
        for depth in DEPTHS
        for place, decades in enumerate(row.curve(f"gradient {depth}"))
    ]


def _theory(table: Table) -> Rows:
    return [{**row.arm, "rate": finite(row.number("theory"), 4)} for row in table.rows]


def told(table: Table, **setting: Any) -> str:
    """What is left of the gradient at the first layer."""
    depth = setting.pop("depth")
    (decades,) = table.where(**setting).of(f"gradient {depth}")
    lost, rate = decades[0], table.where(**setting).of("theory")[0]
    layers = f"With {depth} layers"
    each = f"theory expects {signed(rate)} decades a layer"
    if not math.isfinite(lost):
        return f"{layers} nothing reaches the first one: float32 has no number that small; {each}."
    return f"{layers} the gradient at the first, against the last hidden one, is {sized(lost)}; {each}."


PROFILE = Picture(
    "profile",
    "The gradient at every layer",
    "Dots: a network that was built and looked at once. Dashed: what theory expects. A decade is a factor of ten; "
    "zero: as large as at the last hidden layer.",
    FLOW,
    _CONTROLS,
    draw,
    told,
)
