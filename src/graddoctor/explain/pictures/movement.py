"""Who stands still: how far every layer has moved when training ends."""

from __future__ import annotations

import altair as alt
import numpy as np

from graddoctor.explain.figures import SAME, times
from graddoctor.explain.picture import Picture, adjustable, chosen, coloured, depth_x, finite
from graddoctor.explain.pictures.training import DEPTH, NOTHING, PATIENT, TRAINING
from graddoctor.lab.table import Numbers, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.words import percent

_CONTROLS = (PATIENT, DEPTH)
_SHOWN = (NOTHING, "Adam", "leaky ReLU and its weights", "skip connections")
_LOW, _HIGH = 1e-7, 1e2


def draw(table: Table) -> Chart:
    """Draw the change of each layer's weights against their size at the start."""
    rows = [
        {**row.arm, "layer": place + 1, "moved": min(max(far, _LOW), _HIGH)}
        for row in table.rows
        if row.arm["remedy"] in _SHOWN
        for place, moved in enumerate(row.curve("moved"))
        if (far := finite(moved, 9)) is not None
    ]
    x = depth_x("layer", "layer, from the input")
    powers = [10.0**power for power in range(-7, 3)]
    axis, scale = alt.Axis(format=".0e", values=powers), alt.Scale(type="log", domain=[_LOW, _HIGH], nice=False)
    y = alt.Y("moved:Q", title="change of the weights, of their size", axis=axis, scale=scale)
    lines = (
        alt.Chart(axes.data(rows))
        .transform_filter(chosen("patient", "depth"))
        .mark_line(point=True, strokeWidth=2, clip=True)
        .encode(x=x, y=y, color=coloured("remedy", _SHOWN), tooltip=[alt.Tooltip("moved:Q", format=".2e")])
    )
    return adjustable([lines], _CONTROLS)


def told(table: Table, patient: str, depth: int) -> str:
    """The first layer against the last hidden one, as given and with Adam."""
    here = table.where(patient=patient, depth=depth)
    plain = _against(here.of("moved", remedy=NOTHING)[0])
    adam = _against(here.of("moved", remedy="Adam")[0])
    right = here.of("accuracy", remedy="Adam")[0]
    return (
        f"With SGD the first layer {plain}; with Adam it {adam}, and {percent(right)} of the digits are read correctly."
    )


def _against(moved: Numbers) -> str:
    """How far the first layer gets against the last hidden one."""
    if not np.isfinite(moved).all():
        return "is lost with all others in numbers that are no longer finite"
    decades = float(np.log10(max(moved[0], _LOW) / max(moved[-2], _LOW)))
    if abs(decades) < SAME:
        return "moves as far as the last hidden one"
    return f"moves {times(decades)} times {'less' if decades < 0 else 'further'} than the last hidden one"


MOVEMENT = Picture(
    "movement",
    "How far each layer moves",
    "Distance of each layer's weights from where they started, against their size, at the end of the training.",
    TRAINING,
    _CONTROLS,
    draw,
    told,
)
