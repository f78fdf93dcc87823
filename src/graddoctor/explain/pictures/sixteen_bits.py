"""Numbers that end: how much of a gradient 16 bits can hold, and what a loss scale does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import torch
from torch import nn

from graddoctor.explain.picture import Control, Picture, Study, adjustable, chosen, coloured
from graddoctor.lab import digits
from graddoctor.lab.experiment import cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.words import percent

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}
DEPTHS = (3, 5, 10, 15, 20)
_POWERS = tuple(range(0, 33, 2))
_LAYERS = ("first layer", "layer in the middle", "last layer")

ACTIVATION = Control("activation", "activation", tuple(ACTIVATIONS), "sigmoid")
DEPTH = Control("depth", "depth", DEPTHS, 10, "layers")
_CONTROLS = (ACTIVATION, DEPTH)


def measure(seed: int, activation: str, depth: int) -> Measured:
    """Take the gradient of one batch in float32, and see what float16 keeps of it at every loss scale."""
    model = stack(depth, ACTIVATIONS[activation])
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    gradients = torch.autograd.grad(digits.loss(model, digits.batch()), weights)
    kept = (gradients[0], gradients[len(gradients) // 2], gradients[-1])
    return {name: [_lost(one, 2.0**power) for power in _POWERS] for name, one in zip(_LAYERS, kept, strict=True)}


def _lost(gradient: torch.Tensor, scale: float) -> float:
    """Share of the entries that are not zero and become zero or infinite in float16."""
    seen = gradient[gradient != 0]
    if not len(seen):
        return 1.0
    half = (seen * scale).half()
    return float(((half == 0) | half.isinf()).float().mean())


def draw(table: Table) -> Chart:
    """Draw the share of lost entries against the loss scale."""
    rows = [
        {**row.arm, "layer": layer, "power": power, "share": round(share, 4)}
        for row in table.rows
        for layer in _LAYERS
        for power, share in zip(_POWERS, row.curve(layer), strict=True)
    ]
    x = alt.X("power:Q", title="loss scale, power of two", scale=alt.Scale(domain=[0, _POWERS[-1]]))
    whole, share = alt.Scale(domain=[0, 1]), alt.Axis(format="%")
    y = alt.Y("share:Q", title="entries of the gradient that are lost", scale=whole, axis=share)
    lines = (
        alt.Chart(axes.data(rows))
        .transform_filter(chosen("activation", "depth"))
        .mark_line(strokeWidth=2, point=True)
        .encode(x=x, y=y, color=coloured("layer", _LAYERS), tooltip=[alt.Tooltip("share:Q", format=".1%")])
    )
    return adjustable([lines], _CONTROLS)


def told(table: Table, **setting: Any) -> str:
    """What is lost without a scale, and the scale at which the least is."""
    here = table.where(**setting)
    first = here.of(_LAYERS[0])[0]
    worst = [max(here.of(layer)[0][place] for layer in _LAYERS) for place in range(len(_POWERS))]
    best = min(range(len(_POWERS)), key=lambda place: worst[place])
    said = f"Without a scale, float16 loses {percent(first[0])} of the first layer's gradient."
    if worst[best] > 0.5:
        return f"{said} No scale saves it: what lifts the first layer makes the last one infinite."
    return f"{said} At 2^{_POWERS[best]} it loses {percent(worst[best])} in the worst layer, and that is the least."


SIXTEEN_BITS = Picture(
    "sixteen-bits",
    "What float16 can hold",
    "Share of the gradient's entries that become zero (left) or infinite (right) in float16, by loss scale.",
    Study("gradients in float16", measure, cross(activation=tuple(ACTIVATIONS), depth=DEPTHS)),
    _CONTROLS,
    draw,
    told,
)
