"""Fixup: deep residual networks without normalization, from a start that counts the branches."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

BLOCKS, WIDTH = 30, 64
NETS = {
    "plain start": "He's start, no normalization",
    "normalized": "batch normalization",
    "fixup": "Fixup, no normalization",
}


class Bias(nn.Module):
    """Adds one number that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add it."""
        return x + self.bias


class Branch(nn.Module):
    """Two layers of weights around a rectifier, as each kind of network has them, added to what comes in."""

    def __init__(self, net: str) -> None:
        super().__init__()
        first, second = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.kaiming_normal_(first.weight)
        nn.init.kaiming_normal_(second.weight)
        self.multiplier = nn.Parameter(torch.ones(1), requires_grad=net == "fixup")
        if net == "fixup":
            nn.init.normal_(first.weight, std=(2 / WIDTH) ** 0.5 * BLOCKS**-0.5)  # L^(-1/(2m-2)), with m = 2 layers
            nn.init.zeros_(second.weight)
        norms = [nn.BatchNorm1d(WIDTH) if net == "normalized" else Bias() for _ in range(2)]
        self.layers = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch makes of it, and rectify."""
        return torch.relu(x + self.multiplier * self.layers(x))


def network(net: str) -> nn.Sequential:
    """30 residual blocks, and an output that starts at zero under Fixup."""
    output = nn.Linear(WIDTH, digits.CLASSES)
    if net == "fixup":
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
    return nn.Sequential(nn.Linear(digits.PIXELS, WIDTH), nn.ReLU(), *(Branch(net) for _ in range(BLOCKS)), output)


def measure(seed: int, net: str, rate: float) -> Measured:
    """Train a network at a learning rate."""
    outcome = gd.train(digits.recipe(partial(network, net), seed=seed, rate=rate, epochs=10))
    return {"accuracy": outcome.evaluation or 0.0}


def _best(table: Table, net: str) -> Numbers:
    return table.tuned("accuracy", over="rate", net=net)


EXPERIMENT = Experiment(
    name="fixup",
    title="Fixup: residual networks without normalization",
    claim="Deep residual networks can be trained without normalization, as well as with it, if their start counts "
    "the branches.",
    source="Zhang, Dauphin, Ma 2019, Fixup initialization",
    expected="The last layer of each branch and the output start at zero, the other layers of a branch are divided "
    "by L^(1/(2m-2)) for L branches of m layers, and each branch has a multiplier and biases. Networks of up to "
    "10,000 layers train so at the rate of normalized ones.",
    scaled="30 blocks of two layers of 64 units on digits. That the usual start learns much worse at every rate, and "
    "Fixup as well as batch normalization, must carry over.",
    lesson="In residual networks normalization is needed for the start more than for anything else: it makes "
    "branches small beside the stream. A start that does the same does as well.",
    measure=measure,
    arms=cross(net=tuple(NETS), rate=(0.001, 0.01, 0.03, 0.1)),
    quick=cross(net=tuple(NETS), rate=(0.01, 0.1)),
    questions=(
        Question(
            "At a rate of 0.1, at which the normalized network learns, the usual start does not.",
            lambda table: table.difference("accuracy", {"net": "normalized"}, {"net": "plain start"}, rate=0.1),
            above=0.3,
            unit="accuracy",
            control=True,
        ),
        Question(
            "Fixup does at this rate.",
            lambda table: table.difference("accuracy", {"net": "fixup"}, {"net": "plain start"}, rate=0.1),
            above=0.3,
            unit="accuracy",
        ),
        Question(
            "Each at its best rate, Fixup is as good as batch normalization.",
            lambda table: _best(table, "fixup") - _best(table, "normalized"),
            above=-0.05,
            unit="accuracy",
        ),
    ),
    pictures=(
        Picture(
            "accuracy", "test accuracy", x="rate", x_title="learning rate", by="net", log_x=True, names={"net": NETS}
        ),
    ),
    verdict="reproduced",
)
