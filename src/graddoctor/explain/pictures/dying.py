"""Units that die: how many rectifier networks are born dead, by depth and width."""

from __future__ import annotations

import altair as alt
import numpy as np
import torch

from graddoctor.explain.picture import Control, Picture, Study, adjustable, chosen, coloured
from graddoctor.lab.experiment import cross
from graddoctor.lab.table import Measured, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE
from graddoctor.show.words import percent

NETWORKS, SAMPLES, DEEPEST = 400, 128, 60
WIDTHS = (2, 3, 4, 5, 6, 8, 10, 16)
_MEASURED, _BOUND = "networks that were drawn", "bound of theory"

WIDTH = Control("units", "width", WIDTHS, 4, "units")


def measure(seed: int, units: int) -> Measured:
    """Draw many networks at once with He's weights and no biases; one is dead if it is zero for every sample."""
    x = torch.randn(SAMPLES, units).expand(NETWORKS, SAMPLES, units)
    dead = []
    for _ in range(DEEPEST):
        weights = torch.randn(NETWORKS, units, units) * (2 / units) ** 0.5
        x = torch.bmm(x, weights).relu()
        dead.append(float((x.abs().amax(dim=(1, 2)) == 0).float().mean()))
    return {"dead": dead, "bound": [1 - (1 - 2.0**-units) ** depth for depth in range(1, DEEPEST + 1)]}


def draw(table: Table) -> Chart:
    """Draw the share of dead networks against the depth."""
    rows = [
        {"units": row.arm["units"], "depth": place + 1, "what": what, "share": round(share, 4)}
        for row in table.rows
        for what, values in ((_MEASURED, row.curve("dead")), (_BOUND, row.curve("bound")))
        for place, share in enumerate(values)
    ]
    x = alt.X("depth:Q", title="depth, in layers", axis=alt.Axis(format="d"))
    y = alt.Y("share:Q", title="share of dead networks", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    lines = (
        alt.Chart(axes.data(rows))
        .transform_filter(chosen("units"))
        .mark_line(strokeWidth=2)
        .encode(
            x=x,
            y=y,
            color=coloured("what", {_MEASURED: PAGE.lost, _BOUND: PAGE.quiet}),
            strokeDash=alt.condition(f"datum.what == '{_BOUND}'", alt.value([5, 4]), alt.value([1, 0])),
        )
    )
    return adjustable([lines], (WIDTH,))


def told(table: Table, units: int) -> str:
    """How many are dead at a depth, and at the deepest."""
    (dead,) = table.of("dead", units=units)
    shares = np.array(dead)
    return (
        f"Of {NETWORKS} networks of width {units}, {percent(shares[9])} are dead with 10 layers and "
        f"{percent(shares[-1])} with {DEEPEST}: they give the same answer to every sample, and no gradient."
    )


DYING = Picture(
    "dying",
    "Networks that are born dead",
    f"{NETWORKS} rectifier networks for each width, He's weights, biases of zero, {SAMPLES} random samples. Dashed: "
    "the bound for weights that are drawn evenly around zero (Lu et al. 2019).",
    Study("dead networks", measure, cross(units=WIDTHS)),
    (WIDTH,),
    draw,
    told,
)
