"""Where factors come from: what enters an activation, and how steep it is there."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import torch

from graddoctor.explain.picture import Picture, Rows, adjustable, chosen, coloured
from graddoctor.explain.pictures.flow import ACTIVATION, ACTIVATIONS, BINS, FLOW, SCALE
from graddoctor.lab.table import Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE
from graddoctor.show.words import percent

_CONTROLS = (ACTIVATION, SCALE)
_SLOPE = "slope of the activation, φ'(z)"


def draw(table: Table) -> Chart:
    """Draw the slope as a line, over the distribution of what enters."""
    x = alt.X("z:Q", title="what enters the activation, z", scale=alt.Scale(domain=[-8, 8]))
    y = alt.Y("value:Q", title="slope; shares of z, highest 1", scale=alt.Scale(domain=[-0.15, 1.2]))
    enters = (
        alt.Chart(axes.data(_entering(table)))
        .transform_filter(chosen("activation", "scale"))
        .mark_area(interpolate="step", fill=PAGE.line, stroke=PAGE.quiet, strokeWidth=1)
        .encode(x=x, y=y)
    )
    slope = (
        alt.Chart(axes.data(_slopes()))
        .transform_filter(chosen("activation"))
        .mark_line(strokeWidth=2.5)
        .encode(x=x, y=y, color=coloured("what", {_SLOPE: PAGE.accent}))
    )
    return adjustable([enters, slope], _CONTROLS)


def _entering(table: Table) -> Rows:
    middles = (BINS[1:] + BINS[:-1]) / 2
    rows: Rows = []
    for row in table.rows:
        shares = np.array(row.curve("entering"))
        tops = (shares / max(shares.max(), 1e-9)).round(3)
        rows += [
            {**row.arm, "z": round(float(z), 2), "value": float(top)} for z, top in zip(middles, tops, strict=True)
        ]
    return rows


def _slopes() -> Rows:
    rows: Rows = []
    for name, activation in ACTIVATIONS.items():
        z = torch.linspace(-8, 8, 161, requires_grad=True)
        (slope,) = torch.autograd.grad(activation()(z).sum(), z)
        rows += [
            {"activation": name, "what": _SLOPE, "z": round(at, 2), "value": round(steep, 4)}
            for at, steep in zip(z.tolist(), slope.tolist(), strict=True)
        ]
    return rows


def told(table: Table, **setting: Any) -> str:
    """The root mean square of the slope, and what comes of it with the weights."""
    here = table.where(**setting)
    slope, flat = here.of("slope")[0], here.of("flat")[0]
    factor = slope * setting["scale"]
    way = "keeps its size" if abs(factor - 1) < 0.02 else "shrinks" if factor < 1 else "grows"
    return (
        f"Where z falls, the slope is {slope:.2f} (root mean square), and {percent(flat)} of the values lie where it "
        f"is almost zero. Times σ_w = {setting['scale']}, a layer multiplies the gradient by {factor:.2f}: it {way}."
    )


SLOPES = Picture(
    "slopes",
    "Slopes where the signal falls",
    "Line: the slope of the activation. Grey: what enters it, in the tenth hidden layer of a real network.",
    FLOW,
    _CONTROLS,
    draw,
    told,
)
