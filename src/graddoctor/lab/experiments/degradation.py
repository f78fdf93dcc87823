"""Degradation: a deeper plain network learns its own training set worse, and a residual one does not."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

WIDTH = 64
SHALLOW, DEEP = 8, 44


class Pair(nn.Module):
    """Two layers of weights with batch normalization, with or without an identity around them."""

    def __init__(self, *, skip: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(WIDTH), nn.ReLU(), *_layer(WIDTH))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Rectify at the end, as the paper does."""
        inner: Tensor = self.layers(x)
        return (x + inner if self.skip else inner).relu()


def _layer(inputs: int) -> tuple[nn.Module, nn.Module]:
    linear = nn.Linear(inputs, WIDTH, bias=False)
    nn.init.kaiming_normal_(linear.weight)
    return linear, nn.BatchNorm1d(WIDTH)


def network(net: str, depth: int) -> nn.Sequential:
    """So many layers of weights: pairs between a first one and the output."""
    pairs = [Pair(skip=net == "residual") for _ in range((depth - 2) // 2)]
    return nn.Sequential(*_layer(digits.PIXELS), nn.ReLU(), *pairs, nn.Linear(WIDTH, digits.CLASSES))


def measure(seed: int, net: str, depth: int, rate: float, epochs: int) -> Measured:
    """Train on the digits, and look at the training loss."""
    recipe = digits.recipe(partial(network, net, depth), seed=seed, rate=rate, epochs=epochs)
    outcome = gd.train(recipe)
    return {"fit": -curves.last(outcome), "curve": curves.epochs(outcome, most=curves.GUESSING)}


def _worse(table: Table, net: str) -> Numbers:
    """By how much the training loss of the deep network is above that of the shallow one, each at its best rate."""
    best = {depth: table.tuned("fit", over="rate", net=net, depth=depth) for depth in (SHALLOW, DEEP)}
    return best[SHALLOW] - best[DEEP]


EXPERIMENT = Experiment(
    name="degradation",
    title="Degradation, and residual networks",
    claim="A deeper plain network has a higher training error than a shallower one, although it could do as well; "
    "with skip connections it has not.",
    source="He, Zhang, Ren, Sun 2016, Deep residual learning (figures 1 and 6)",
    expected="On CIFAR-10 a plain network of 56 layers has a higher training error than one of 20, with batch "
    "normalization and no vanishing gradient; residual networks get better with depth, from 8.75 % test error at 20 "
    "layers to 6.97 % at 56.",
    scaled="44 against 8 layers of 64 dense units in place of convolutions, on digits, the training loss at the end "
    "in place of the error. That the deeper plain network is worse on its training set, and the deeper residual one "
    "is not, must carry over; errors need not.",
    lesson="Depth itself can stand in the way where no gradient vanishes: layers cannot easily learn to do nothing. "
    "A residual layer does nothing to begin with.",
    measure=measure,
    arms=cross(net=("plain", "residual"), depth=(SHALLOW, DEEP), rate=(0.01, 0.03, 0.1), epochs=(20,)),
    quick=cross(net=("plain", "residual"), depth=(SHALLOW, DEEP), rate=(0.01, 0.03), epochs=(10,)),
    questions=(
        Question(
            "The deeper plain network ends with a higher training loss.",
            lambda table: _worse(table, "plain"),
            above=0.1,
            unit="nats",
        ),
        Question(
            "The deeper residual network does not.",
            lambda table: _worse(table, "residual"),
            below=0.1,
            unit="nats",
        ),
    ),
    pictures=(
        Picture(
            "curve",
            "training loss",
            x_title="epoch",
            by="depth",
            panel="net",
            where={"rate": 0.03},
            log_y=True,
            names={"depth": {depth: f"{depth} layers" for depth in (SHALLOW, DEEP)}},
            first=1,
        ),
    ),
    verdict="reproduced",
)
