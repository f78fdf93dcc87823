"""Through time: the gradient against the lag, for cells without gates and with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import torch
from torch import nn

from graddoctor.explain.figures import sized
from graddoctor.explain.picture import Control, Picture, Study, adjustable, coloured, decades_y, finite, ruled
from graddoctor.lab import sequences
from graddoctor.lab.experiment import cross
from graddoctor.lab.table import Measured, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart

STEPS, HIDDEN = 100, 64
RADII = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6)
BIASES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_CELLS = ("tanh RNN", "ReLU RNN", "LSTM", "GRU")

RADIUS = Control("radius", "spectral radius of the RNNs", RADII, 0.9)
BIAS = Control("bias", "gate bias of LSTM and GRU", BIASES, 0.0)
_CONTROLS = (RADIUS, BIAS)


def measure(seed: int, cell: str, setting: float) -> Measured:
    """Look at one untrained network through time."""
    recipe = sequences.recipe("recall", _BUILD[cell](setting), STEPS, seed=seed, rate=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = sequences.batch(recipe)
    profile = sequences.through_time(recipe, recipe.model(), drawn)
    lags = torch.tensor(profile.cell_lag_gradient if cell == "LSTM" else profile.lag_gradient, dtype=torch.float64)
    return {"decades": (lags / lags[0]).log10().tolist()}


def _rnn(nonlinearity: str) -> Callable[[float], Callable[[int], nn.RNN]]:
    def build(inputs: int, radius: float) -> nn.RNN:
        layer = nn.RNN(inputs, HIDDEN, batch_first=True, nonlinearity=nonlinearity)
        recurrent, given = layer.get_parameter("weight_hh_l0"), layer.get_parameter("weight_ih_l0")
        with torch.no_grad():
            nn.init.normal_(recurrent)
            recurrent.mul_(radius / torch.linalg.eigvals(recurrent).abs().max())
            given.mul_(0.1)  # loud inputs would bend tanh, whatever its weights are
        return layer

    return lambda radius: lambda inputs: build(inputs, radius)


def _lstm(bias: float) -> Callable[[int], nn.LSTM]:
    return lambda inputs: sequences.open_gates(nn.LSTM(inputs, HIDDEN, batch_first=True), bias=bias)


def _gru(bias: float) -> Callable[[int], nn.GRU]:
    def build(inputs: int) -> nn.GRU:
        layer = nn.GRU(inputs, HIDDEN, batch_first=True)
        with torch.no_grad():
            for name, value in (("bias_ih_l0", bias), ("bias_hh_l0", 0.0)):
                layer.get_parameter(name)[HIDDEN : 2 * HIDDEN] = value
        return layer

    return build


_BUILD: dict[str, Callable[[float], Callable[[int], nn.RNNBase]]] = {
    "tanh RNN": _rnn("tanh"),
    "ReLU RNN": _rnn("relu"),
    "LSTM": _lstm,
    "GRU": _gru,
}


def draw(table: Table) -> Chart:
    """Draw decades against the lag, a line for each cell."""
    rows = [
        {"cell": row.arm["cell"], _what(row.arm["cell"]): row.arm["setting"], "lag": lag, "decades": finite(decades, 2)}
        for row in table.rows
        for lag, decades in enumerate(row.curve("decades"))
        if lag % 2 == 0
    ]
    full = [{"radius": None, "bias": None, **row} for row in rows]
    x = alt.X("lag:Q", title="steps back in time", axis=alt.Axis(format="d"))
    y = decades_y("decades", "gradient against that of the last step, decades", -20, 10)
    tips = [alt.Tooltip("cell:N"), alt.Tooltip("lag:Q"), alt.Tooltip("decades:Q", format="+.2f")]
    lines = (
        alt.Chart(axes.data(full))
        .transform_filter("datum.radius === radius || datum.bias === bias")
        .transform_filter("isValid(datum.decades)")
        .mark_line(strokeWidth=2, clip=True)
        .encode(x=x, y=y, color=coloured("cell", _CELLS), tooltip=tips)
    )
    return adjustable([ruled(), lines], _CONTROLS)


def _what(cell: str) -> str:
    return "radius" if cell.endswith("RNN") else "bias"


def told(table: Table, **setting: Any) -> str:
    """What is left after all steps, cell by cell."""
    ends = {cell: table.of("decades", cell=cell, setting=setting[_what(cell)])[0][-1] for cell in _CELLS}
    said = ", ".join(f"{cell} {sized(end)}" for cell, end in ends.items())
    return f"{STEPS - 1} steps back the gradient is, against the last step: {said}."


THROUGH_TIME = Picture(
    "through-time",
    "The gradient against the lag",
    "Of a gradient that enters at the last step alone, what is left at earlier ones; of the LSTM, along its memory. "
    "Untrained cells of 64 units, random inputs.",
    Study(
        "recurrent networks",
        measure,
        cross(cell=("tanh RNN", "ReLU RNN"), setting=RADII) + cross(cell=("LSTM", "GRU"), setting=BIASES),
    ),
    _CONTROLS,
    draw,
    told,
)
