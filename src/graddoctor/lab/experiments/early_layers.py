"""Early layers move last: how far each layer gets, and when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.looking import Every
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

STUCK, LEARNS = 14, 7  # layers of a network that stays on its plateau, and of one that leaves it
EPOCHS = {STUCK: 30, LEARNS: 80}


def measure(seed: int, depth: int, biases: bool) -> Measured:  # noqa: FBT001 - a part of an arm
    """Train a network and follow every layer from its first weights to its last ones."""
    build = partial(stack, depth, nn.ReLU, biases=biases)
    recipe = digits.recipe(build, seed=seed, rate=0.03, epochs=EPOCHS[depth])
    looks = Every(len(digits.Shuffled(128)), _weights)
    outcome = gd.train(recipe, observer=looks)
    budget = digits.budget(build(), digits.batch())
    trail = [*looks.readings, _weights(outcome.model)]
    far = np.array([[float((now - at).norm()) for now, at in zip(one, trail[0], strict=True)] for one in trail])
    sizes = np.array([float(weights.norm()) for weights in trail[0]])
    return {
        "decades": budget.total,
        "lowest": min(curves.epochs(outcome)),
        "moved": np.log10(far[1] / sizes).tolist(),
        "half": np.argmax(far >= far[-1] / 2, axis=0).tolist(),
    }


def _weights(model: nn.Module, _: Any = None) -> list[Tensor]:
    return [module.weight.detach().clone() for module in model.modules() if isinstance(module, nn.Linear)]


def _early(value: str, depth: int, *, biases: bool) -> Callable[[Table], Numbers]:
    """Decades between the first third of the layers and the last; the output layer is like none of them."""
    few = depth // 3

    def effect(table: Table) -> Numbers:
        curves = table.of(value, depth=depth, biases=biases)
        decades = np.log10(curves) if value == "half" else curves
        return np.array(decades[:, :few].mean(axis=1) - decades[:, -few - 1 : -1].mean(axis=1))

    return effect


NAMES: dict[str, dict[Any, str]] = {
    "biases": {True: "with biases", False: "without biases"},
    "depth": {layers: f"{layers} layers" for layers in EPOCHS},
}
TWICE = float(np.log10(2))

EXPERIMENT = Experiment(
    name="early-layers",
    title="Early layers move last",
    claim="Where the gradient vanishes, the early layers learn last.",
    source="Told everywhere; measured by Nielsen 2015 (Neural Networks and Deep Learning, chapter 5)",
    expected="Nielsen: of four hidden sigmoid layers, the first learns about 100 times more slowly than the last, by "
    "the gradient of its biases. Theory: the gradient of a weight is the gradient behind it times the signal before "
    "it. Where biases keep signals up, early layers get what the backward pass has left. In ReLU networks without "
    "biases, <W, dL/dW> is the same for every layer: what the gradient loses on its way back, the signal loses on its "
    "way forward.",
    scaled="ReLU networks with torch's start, 64 units, 8 x 8 digits: 14 layers, which learn nothing in 30 epochs, and "
    "7, which do after a plateau. What must carry over: the order of the layers. How many epochs it takes need not.",
    lesson="With biases, early layers do get smaller steps, by orders of magnitude, for as long as the network is on "
    "its plateau. Without biases all layers get the same small steps: never judge by weight gradients alone, look at "
    "those of the activations. And when a network leaves its plateau, all layers do so together: they wait for each "
    "other.",
    measure=measure,
    arms=cross(depth=(LEARNS, STUCK), biases=(True, False)),
    quick=cross(depth=(LEARNS, STUCK), biases=(True, False)),
    questions=(
        Question(
            "In the deep networks, the gradient loses three decades or more on its way to the first layer.",
            lambda table: np.maximum(*(table.of("decades", depth=STUCK, biases=biases) for biases in (True, False))),
            below=-3.0,
            unit="decades",
            control=True,
        ),
        Question(
            "The shallower network leaves its plateau, at ln 10.",
            lambda table: table.of("lowest", depth=LEARNS, biases=True),
            below=1.0,
            unit="lowest loss",
            control=True,
        ),
        Question(
            "In the first epoch, early layers of the deep network move less than a tenth as far as late ones.",
            _early("moved", STUCK, biases=True),
            below=-1.0,
            unit="decades",
        ),
        Question(
            "So they do without biases.",
            _early("moved", STUCK, biases=False),
            below=-1.0,
            unit="decades",
        ),
        Question(
            "Early layers of the deep network take twice as long for half of their way.",
            _early("half", STUCK, biases=True),
            above=TWICE,
            unit="decades",
        ),
        Question(
            "So they do without biases.",
            _early("half", STUCK, biases=False),
            above=TWICE,
            unit="decades",
        ),
        Question(
            "So they do in a network that leaves its plateau, with biases.",
            _early("half", LEARNS, biases=True),
            above=TWICE,
            unit="decades",
        ),
    ),
    pictures=(
        Picture(
            "moved",
            "change in the first epoch over size, decades",
            x_title="layer",
            by="biases",
            panel="depth",
            names=NAMES,
            first=1,
        ),
        Picture(
            "half",
            "epochs until half of the final change",
            x_title="layer",
            by="biases",
            panel="depth",
            names=NAMES,
            first=1,
        ),
    ),
    verdict="only under these conditions",
)
