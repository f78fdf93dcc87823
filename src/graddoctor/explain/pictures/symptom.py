"""What is seen first: a loss that does not fall, and the same network with fewer layers."""

from __future__ import annotations

import math

import altair as alt

from graddoctor.explain.picture import Picture, Rows, adjustable, coloured
from graddoctor.explain.pictures.training import DEPTH, DEPTHS, NOTHING, PATIENT, TRAINING
from graddoctor.lab import digits
from graddoctor.lab.table import Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE
from graddoctor.show.words import percent

_CONTROLS = (PATIENT, DEPTH)
_GUESS = math.log(digits.CLASSES)


def draw(table: Table) -> Chart:
    """Draw the loss of every depth, the chosen one in front."""
    x, y = loss_axes()
    colour = coloured("layers", tuple(named(depth) for depth in DEPTHS))
    strong = alt.condition("datum.depth == depth", alt.value(1.0), alt.value(0.35))
    tips = [alt.Tooltip("layers:N"), alt.Tooltip("loss:Q", format=".3f")]
    lines = (
        alt.Chart(axes.data(curves(table.where(remedy=NOTHING))))
        .transform_filter("datum.patient == patient")
        .mark_line(strokeWidth=2.2)
        .encode(x=x, y=y, color=colour, opacity=strong, tooltip=tips)
    )
    guess = alt.Chart(axes.data([{"at": _GUESS}])).mark_rule(strokeDash=[5, 4], color=PAGE.quiet).encode(y="at:Q")
    return adjustable([guess, lines], _CONTROLS)


def loss_axes() -> tuple[alt.X, alt.Y]:
    """Steps, and a loss whose axis stays when the setting changes."""
    x = alt.X("step:Q", title="training step", axis=alt.Axis(format="d"))
    return x, alt.Y("loss:Q", title="training loss", scale=alt.Scale(domain=[0, 2.5]))


def named(depth: int) -> str:
    """A depth, as the legend has it."""
    return f"{depth} layers"


def curves(table: Table) -> Rows:
    """Rows of losses, a point each."""
    return [
        {
            **row.arm,
            "step": round((place + 0.5) * row.number("every")),
            "loss": round(loss, 4),
            "layers": named(row.arm["depth"]),
        }
        for row in table.rows
        for place, loss in enumerate(row.curve("loss"))
    ]


def told(table: Table, patient: str, depth: int) -> str:
    """How well it did, and how well the shallowest one."""
    right = {one: table.of("accuracy", patient=patient, depth=one, remedy=NOTHING)[0] for one in (depth, DEPTHS[0])}
    here = f"With {depth} layers, {percent(right[depth])} of the digits in the test set are read correctly"
    if depth == DEPTHS[0]:
        return f"{here}; guessing gives 10 %."
    return f"{here}; guessing gives 10 %, the same network with {DEPTHS[0]} layers {percent(right[DEPTHS[0]])}."


SYMPTOM = Picture(
    "symptom",
    "The same network, deeper",
    "Training loss on handwritten digits, a curve for each depth. Dashed: the loss of guessing.",
    TRAINING,
    _CONTROLS,
    draw,
    told,
)
