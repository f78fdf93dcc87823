"""Convolutional networks suffer as much as dense ones: sharing and locality protect nothing."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

DRAWS = 4  # networks that are looked at for one number
CHANNELS = 16
KINDS = {"dense": "dense", "circular": "convolution, circular padding", "zeros": "convolution, zero padding"}


def network(kind: Literal["dense", "circular", "zeros"], depth: int) -> nn.Sequential:
    """So many layers of tanh, all with torch's own start: variance 1/3 over what a unit sees."""
    if kind == "dense":
        return stack(depth, nn.Tanh, width=256)
    layers: list[nn.Module] = []
    for layer in range(depth - 1):
        channels = CHANNELS if layer else 1
        layers += [nn.Conv2d(channels, CHANNELS, 3, padding=1, padding_mode=kind), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS * 64, digits.CLASSES))


def measure(seed: int, look: str, kind: Literal["dense", "circular", "zeros"], depth: int) -> Measured:
    """Look at untrained networks, or train one."""
    shape = (64,) if kind == "dense" else (1, 8, 8)
    if look == "training":
        recipe = digits.recipe(partial(network, kind, depth), seed=seed, rate=0.01, shape=shape, epochs=10)
        return {"accuracy": gd.train(recipe).evaluation or 0.0}
    batch = digits.batch(64, shape)
    lost = [digits.budget(network(kind, depth), batch).total for _ in range(DRAWS)]
    return {"decades": sum(lost) / DRAWS}


def _less(table: Table, kind: str) -> Numbers:
    """How many decades a layer the convolution keeps that the dense layer loses."""
    start = table.where(look="start")
    return start.slope("decades", over="depth", kind=kind) - start.slope("decades", over="depth", kind="dense")


EXPERIMENT = Experiment(
    name="convolution",
    title="Do convolutional networks suffer less?",
    claim="Convolutional networks suffer less from vanishing gradients, because they share weights and are local.",
    source="Told in many tutorials, without a source",
    expected="Theory sees no difference: the maps of lengths and gradients are those of dense layers with a fan-in "
    "of k x k x channels (Xiao et al. 2018). Zero padding takes a little more at the borders.",
    scaled="16 channels, 3 x 3, on 8 x 8 digits, beside 256 dense units; tanh and torch's own start everywhere, "
    "since only sharing and locality shall differ. The sign must carry over, and the size to a fiftieth of a decade "
    "a layer.",
    lesson="Sharing and locality protect nothing. What protects the convolutional networks that people use is He's "
    "start, normalization, skip connections, and that few of them are plain and deep.",
    measure=measure,
    arms=cross(look=("start",), kind=tuple(KINDS), depth=(4, 8, 16, 32))
    + cross(look=("training",), kind=("dense", "zeros"), depth=(20,)),
    quick=cross(look=("start",), kind=tuple(KINDS), depth=(4, 16))
    + cross(look=("training",), kind=("zeros",), depth=(20,)),
    questions=(
        Question(
            "A layer of convolutions loses less gradient than a dense one (circular padding).",
            lambda table: _less(table, "circular"),
            above=0.02,
            unit="decades a layer",
        ),
        Question(
            "A layer of convolutions loses less gradient than a dense one (zero padding).",
            lambda table: _less(table, "zeros"),
            above=0.02,
            unit="decades a layer",
        ),
        Question(
            "A plain convolutional network of 20 layers learns.",
            lambda table: table.of("accuracy", look="training", kind="zeros"),
            above=0.5,
            unit="accuracy",
        ),
    ),
    pictures=(
        Picture(
            "decades",
            "decades of gradient from the loss to the first layer",
            x="depth",
            x_title="layers of weights",
            by="kind",
            where={"look": "start"},
            names={"kind": KINDS},
        ),
    ),
    verdict="not reproduced",
)
