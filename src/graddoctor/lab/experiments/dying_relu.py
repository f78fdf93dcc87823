"""Deep and narrow rectifier networks are born dead."""

from __future__ import annotations

import math

import numpy as np
import torch

from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

NETWORKS = 1000  # drawn at once for one share
INPUTS = 64
WIDTHS = (2, 3, 4, 8)


def measure(seed: int, width: int, depth: int) -> Measured:
    """Share of untrained networks that answer every input alike, and the bound of theorem 3.2."""
    signal = torch.randn(NETWORKS, INPUTS, width)
    for _ in range(depth):
        weights = torch.randn(NETWORKS, width, width) * math.sqrt(2 / width)
        signal = torch.relu(signal @ weights)
    dead = (signal == 0).all(dim=2).all(dim=1)
    return {"dead": float(dead.float().mean()), "bound": 1 - (1 - 2.0**-width) ** depth}


def _above_the_bound(table: Table) -> Numbers:
    """How far the largest share stands above its bound."""
    seeds = table.seeds
    over = [[row.values["dead"] - row.values["bound"] for row in table.rows if row.seed == seed] for seed in seeds]  # type: ignore[operator]
    return np.array([max(one) for one in over])


EXPERIMENT = Experiment(
    name="dying-relu",
    title="Rectifier networks that are born dead",
    claim="A rectifier network dies at its start with a probability that grows with depth and falls with width.",
    source="Lu, Shin, Su, Karniadakis 2019, Dying ReLU and initialization, theorem 3.2",
    expected="With weights that are as often negative as positive, a layer of N units is dead with probability 2^-N "
    "at most, so that L of them are with 1 - (1 - 2^-N)^L at most; for every width it tends to 1 with depth.",
    scaled="Nothing is trained: 1,000 networks a number, with He's start and no biases, on 64 random inputs. The "
    "bound, and the two signs, must carry over.",
    lesson="Width protects: of networks 8 units wide, most live through a hundred layers. Deep and narrow networks "
    "want leaky rectifiers, biases, or weights that are not symmetric.",
    measure=measure,
    arms=cross(width=WIDTHS, depth=(2, 5, 10, 20, 50, 100)),
    quick=cross(width=WIDTHS, depth=(5, 20, 50)),
    questions=(
        Question(
            "At width 3, ten times the depth makes a quarter more of the networks dead.",
            lambda table: table.difference("dead", {"depth": 50}, {"depth": 5}, width=3),
            above=0.25,
            unit="share of networks",
        ),
        Question(
            "At 20 layers, twice a width of 4 saves a quarter of the networks.",
            lambda table: table.difference("dead", {"width": 4}, {"width": 8}, depth=20),
            above=0.25,
            unit="share of networks",
        ),
        Question("No share is above the bound.", _above_the_bound, below=0.02, unit="share of networks"),
        Question(
            "At width 2 nearly all of them are dead after 50 layers.",
            lambda table: table.of("dead", width=2, depth=50),
            above=0.95,
            unit="share of networks",
        ),
    ),
    pictures=(
        Picture(
            "dead",
            "share of networks that are born dead (dashed: the bound)",
            x="depth",
            x_title="hidden layers",
            by="width",
            log_x=True,
            expected="bound",
            names={"width": {width: f"{width} units" for width in WIDTHS}},
        ),
    ),
    verdict="reproduced",
)
