"""The way forward: what tells two samples apart, layer by layer."""

from __future__ import annotations

from typing import Any

import altair as alt

from graddoctor.explain.figures import sized
from graddoctor.explain.picture import Picture, adjustable, chosen, decades_y, depth_x, finite, ruled
from graddoctor.explain.pictures.flow import ACTIVATION, FLOW, SCALE, SIGNALLED
from graddoctor.lab.table import Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE
from graddoctor.show.words import figure

_CONTROLS = (ACTIVATION, SCALE)
_ROUNDED = 1e-6  # of the signal: what float32 rounds is ten times smaller


def draw(table: Table) -> Chart:
    """Draw the spread between samples against that of the first layer."""
    rows = [
        {**row.arm, "layer": place + 1, "decades": finite(decades, 2)}
        for row in table.rows
        for place, decades in enumerate(row.curve(f"signal {SIGNALLED}"))
    ]
    x = depth_x("layer", "layer, from the input")
    y = decades_y("decades", "differences between samples, decades", -9, 9)
    tips = [alt.Tooltip("layer:Q", title="layer"), alt.Tooltip("decades:Q", title="decades", format="+.2f")]
    line = (
        alt.Chart(axes.data(rows))
        .transform_filter(f"{chosen('activation', 'scale')} && isValid(datum.decades)")
        .mark_line(point=alt.OverlayMarkDef(color=PAGE.gained), color=PAGE.gained, strokeWidth=2, clip=True)
        .encode(x=x, y=y, tooltip=tips)
    )
    return adjustable([ruled(), line], _CONTROLS)


def told(table: Table, **setting: Any) -> str:
    """Where float32 has rounded all samples to one, or what is left of their differences."""
    here = table.where(**setting)
    (decades,), (unlike,) = here.of(f"signal {SIGNALLED}"), here.of("unlike")
    if unlike[-1] < _ROUNDED:
        gone = next(place for place, share in enumerate(unlike, start=1) if share < _ROUNDED)
        return f"After {gone} layers all samples are the same to float32: no optimizer can tell them apart any more."
    said = f"In the last hidden layer, what tells samples apart is, against the first: {sized(decades[-1])}"
    return f"{said}. It is {figure(100 * unlike[-1])} % of the signal there."


SIGNAL = Picture(
    "signal",
    "What is left of the differences between samples",
    f"Spread between 64 handwritten digits in each layer of a network of {SIGNALLED} layers, against the first.",
    FLOW,
    _CONTROLS,
    draw,
    told,
)
