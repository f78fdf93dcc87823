"""Batch normalization: a cure and larger learning rates, and an explosion that comes with depth."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

DEPTH = 10
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
YANG = math.log10(math.pi / (math.pi - 1)) / 2
"""Decades that a layer of rectifiers behind batch normalization adds to the gradient."""


def network(net: str, depth: int, width: int = 64) -> nn.Sequential:
    """Rectifiers with He's start, each layer of weights followed by batch normalization or not."""
    plain = stack(depth, nn.ReLU, width=width, start=nn.init.kaiming_normal_)
    if net == "plain":
        return plain
    layers: list[nn.Module] = []
    for layer in plain:
        layers += [nn.BatchNorm1d(width), layer] if isinstance(layer, nn.ReLU) else [layer]
    return nn.Sequential(*layers)


def measure(seed: int, look: str, net: str, size: float) -> Measured:
    """Train at a learning rate, or look at so many layers."""
    if look == "training":
        outcome = gd.train(digits.recipe(partial(network, net, DEPTH), seed=seed, rate=size, epochs=10))
        return {"accuracy": outcome.evaluation or 0.0}
    batch = digits.batch(256)
    budget = digits.budget(network(net, int(size), width=256), batch)
    return {"decades": budget.total, "theory": YANG * size if net == "normalized" else 0.0}


def _largest_rate(table: Table, net: str) -> Numbers:
    """log10 of the largest rate at which each seed still learns; of the smallest one where it learns at none."""
    trained = table.where(look="training", net=net)
    rates = np.array(trained.each("size"))
    learns = np.array([trained.of("accuracy", size=rate) > 0.8 for rate in rates])
    largest: Numbers = np.where(learns, rates[:, None], rates.min()).max(axis=0)
    return np.log10(largest)


EXPERIMENT = Experiment(
    name="batch-norm",
    title="Batch normalization and the learning rate",
    claim="Batch normalization allows much larger learning rates, and keeps gradients from vanishing and exploding.",
    source="Ioffe, Szegedy 2015 (section 3.3; figure 3)",
    expected="Ioffe and Szegedy train at 5 and 30 times the rate. At the start, though, the gradient of a plain "
    "normalized network explodes with depth: by a factor of pi/(pi - 1) in its square for each layer of rectifiers, "
    "0.083 decades (Yang et al. 2019).",
    scaled="10 layers of 64 rectifiers with He's start on digits. A stable rate that is several times larger, and "
    "the exponent of the explosion, must carry over.",
    lesson="Normalization makes large rates safe. Without skip connections it makes deep networks explode, which is "
    "why the deepest ones have both.",
    measure=measure,
    arms=cross(look=("training",), net=("plain", "normalized"), size=RATES)
    + cross(look=("start",), net=("plain", "normalized"), size=(5, 10, 20, 40)),
    quick=cross(look=("training",), net=("plain", "normalized"), size=(0.03, 0.1, 0.3, 1.0))
    + cross(look=("start",), net=("plain", "normalized"), size=(10, 30)),
    questions=(
        Question(
            "The largest rate at which the network learns is three times larger with normalization.",
            lambda table: _largest_rate(table, "normalized") - _largest_rate(table, "plain"),
            above=math.log10(3) - 0.05,
            unit="decades of the rate",
        ),
        Question(
            "With normalization the gradient keeps its size at the start, whatever the depth.",
            lambda table: table.slope("decades", over="size", look="start", net="normalized"),
            below=0.03,
            unit="decades a layer",
        ),
        Question(
            "Without it, He's start keeps it.",
            lambda table: np.abs(table.slope("decades", over="size", look="start", net="plain")),
            below=0.03,
            unit="decades a layer",
            control=True,
        ),
    ),
    pictures=(
        Picture(
            "accuracy",
            "test accuracy",
            x="size",
            x_title="learning rate",
            by="net",
            where={"look": "training"},
            log_x=True,
        ),
        Picture(
            "decades",
            "decades of gradient from the last layer to the first, at the start",
            x="size",
            x_title="layers of weights",
            by="net",
            where={"look": "start"},
            expected="theory",
        ),
    ),
    verdict="only under these conditions",
    seeds=6,
    quick_seeds=5,
)
