"""Past the layers: what a way around each layer does to the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
from torch import nn

from graddoctor.explain.figures import sized
from graddoctor.explain.picture import (
    Control,
    Picture,
    Study,
    adjustable,
    chosen,
    coloured,
    decades_y,
    depth_x,
    finite,
    ruled,
)
from graddoctor.lab import digits
from graddoctor.lab.experiment import cross
from graddoctor.lab.residual import residual
from graddoctor.lab.table import Measured, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart

WIDTH = 64
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
DEPTHS = (5, 10, 20, 50)
PLAIN, ADDED, SCALED, NORMED = "f(x) alone", "x + f(x)", "x + f(x) / √L", "x + f(norm(x))"
_KINDS = (PLAIN, ADDED, SCALED, NORMED)

ACTIVATION = Control("activation", "activation", tuple(ACTIVATIONS), "tanh")
DEPTH = Control("depth", "depth", DEPTHS, 20, "blocks")
_CONTROLS = (ACTIVATION, DEPTH)


def measure(seed: int, activation: str, depth: int, kind: str) -> Measured:
    """Look at an untrained network of so many equal blocks, torch's weights, an activation and weights in each."""
    made = ACTIVATIONS[activation]

    def branch() -> nn.Sequential:
        norm = [nn.LayerNorm(WIDTH)] if kind == NORMED else []
        return nn.Sequential(*norm, made(), nn.Linear(WIDTH, WIDTH))

    if kind == PLAIN:
        blocks = [branch() for _ in range(depth)]
        model = nn.Sequential(nn.Linear(digits.PIXELS, WIDTH), *blocks, nn.Linear(WIDTH, digits.CLASSES))
    else:
        model = residual(depth, branch, width=WIDTH, scale=depth**-0.5 if kind == SCALED else 1.0)
    rows = digits.budget(model, digits.batch(64)).rows
    changes = [row.decades for row in rows][:depth]
    return {"decades": [*np.cumsum(changes[::-1])[::-1].tolist(), 0.0]}


def draw(table: Table) -> Chart:
    """Draw the gradient at every block, a line for each way of putting them together."""
    rows = [
        {**row.arm, "block": place, "decades": finite(decades, 2)}
        for row in table.rows
        for place, decades in enumerate(row.curve("decades"))
    ]
    x = depth_x("block", "block, from the input")
    y = decades_y("decades", "gradient against the last block, decades", -12, 6)
    tips = [alt.Tooltip("kind:N"), alt.Tooltip("block:Q"), alt.Tooltip("decades:Q", format="+.2f")]
    lines = (
        alt.Chart(axes.data(rows))
        .transform_filter(f"{chosen('activation', 'depth')} && isValid(datum.decades)")
        .mark_line(strokeWidth=2, clip=True)
        .encode(x=x, y=y, color=coloured("kind", _KINDS), tooltip=tips)
    )
    return adjustable([ruled(), lines], _CONTROLS)


def told(table: Table, **setting: Any) -> str:
    """What is left at the first block, kind by kind."""
    ends = {kind: float(table.of("decades", kind=kind, **setting)[0][0]) for kind in _KINDS}
    said = ", ".join(f"{kind} {sized(end)}" for kind, end in ends.items())
    return f"At the first of {setting['depth']} blocks the gradient is, against the last one: {said}."


SKIPS = Picture(
    "skips",
    "With a way past every layer",
    "Untrained networks with torch's own weights; f is an activation and a layer of weights, L the number of blocks.",
    Study("residual networks", measure, cross(activation=tuple(ACTIVATIONS), depth=DEPTHS, kind=_KINDS)),
    _CONTROLS,
    draw,
    told,
)
