"""Skip connections cure vanishing gradients, where the branches do not add up to an explosion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.residual import residual
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
DEPTH = 20
DRAWS = 4  # networks that are looked at for one number


def plain_or_skip(net: str, activation: str) -> nn.Sequential:
    """20 layers with torch's own start, without or with an identity around each hidden one."""
    if net == "plain":
        return stack(DEPTH, ACTIVATIONS[activation])
    return residual(DEPTH - 2, lambda: nn.Sequential(nn.Linear(64, 64), ACTIVATIONS[activation]()))


def he_branch() -> nn.Sequential:
    """Two layers of rectifiers with He's start."""
    first, second = nn.Linear(256, 256), nn.Linear(256, 256)
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)


def measure(seed: int, look: str, net: str, activation: str, size: float) -> Measured:
    """Train a network at a learning rate, or look at one of so many blocks."""
    if look == "training":
        recipe = digits.recipe(partial(plain_or_skip, net, activation), seed=seed, rate=size, epochs=15)
        return {"accuracy": gd.train(recipe).evaluation or 0.0}
    blocks = int(size)
    scale = 1.0 if net == "full branches" else blocks**-0.5
    batch = digits.batch(64)
    build = partial(residual, blocks, he_branch, width=256, scale=scale)
    return {"decades": sum(digits.budget(build(), batch).total for _ in range(DRAWS)) / DRAWS}


def _gain(table: Table, activation: str) -> Numbers:
    trained = table.where(look="training", activation=activation)
    return trained.tuned("accuracy", over="size", net="skip") - trained.tuned("accuracy", over="size", net="plain")


def _grown(table: Table, net: str) -> Numbers:
    return table.slope("decades", over="size", look="start", net=net)


_TRAINED = {"look": ("training",), "net": ("plain", "skip"), "activation": ("tanh", "sigmoid")}
_BRANCHES = {"look": ("start",), "net": ("full branches", "branches / sqrt(blocks)"), "activation": ("relu",)}

EXPERIMENT = Experiment(
    name="skip-connections",
    title="Skip connections",
    claim="A skip connection around every layer cures the vanishing gradient, and leaves its size alone.",
    source="He, Zhang, Ren, Sun 2016 (Identity mappings in deep residual networks, equation 5)",
    expected="The identity hands the whole gradient on, whatever the branch does. Branches of full variance add to "
    "it: of two layers of rectifiers with He's start, each doubles its square, 0.15 decades a block; divided by the "
    "root of their number they all together add less than half a decade.",
    scaled="20 layers of 64 units on digits instead of images. A gain in accuracy of more than half, and the sign of "
    "growth, must carry over; accuracies need not.",
    lesson="Skip connections cure what vanishes. In deep networks without normalization their branches must start "
    "small: divided by the root of their number, or at zero.",
    measure=measure,
    arms=cross(**_TRAINED, size=(0.01, 0.1)) + cross(**_BRANCHES, size=(5, 10, 20, 40)),
    quick=cross(**_TRAINED, size=(0.01,)) + cross(**_BRANCHES, size=(5, 20)),
    questions=(
        Question("Skips make a tanh network learn.", lambda table: _gain(table, "tanh"), above=0.5, unit="accuracy"),
        Question(
            "Skips make a sigmoid network learn.", lambda table: _gain(table, "sigmoid"), above=0.5, unit="accuracy"
        ),
        Question(
            "Blocks whose branches are scaled keep the gradient's size.",
            lambda table: _grown(table, "branches / sqrt(blocks)"),
            below=0.05,
            unit="decades a block",
        ),
        Question(
            "So do blocks whose branches are not.",
            lambda table: _grown(table, "full branches"),
            below=0.05,
            unit="decades a block",
        ),
    ),
    pictures=(
        Picture(
            "accuracy",
            "test accuracy",
            kind="bars",
            x="activation",
            by="net",
            where={"look": "training", "size": 0.01},
            names={
                "net": {"plain": "plain", "skip": "with skip connections"},
                "activation": {k: k for k in ACTIVATIONS},
            },
        ),
        Picture(
            "decades",
            "decades of gradient gained from the last block to the first",
            x="size",
            x_title="blocks",
            by="net",
            where={"look": "start"},
        ),
    ),
    verdict="only under these conditions",
)
