"""ReLU, leaky ReLU and PReLU: whether it is the activation that cures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "leaky ReLU": partial(nn.LeakyReLU, 0.01),
    "PReLU": nn.PReLU,
}
FAMILY = {"ReLU": 0.0, "leaky ReLU": 0.01, "PReLU": 0.25}  # slopes below 0, for which He's start makes up
STARTS = {"start": {"torch": "torch's start", "He": "He's start"}}
DEEP = 20


def measure(seed: int, *, activation: str, start: str, rate: float, epochs: int) -> Measured:
    """Look at a network before it is trained, and at what training makes of it."""
    he = partial(nn.init.kaiming_normal_, a=FAMILY.get(activation, 0.0))
    build = partial(stack, DEEP, ACTIVATIONS[activation], start=he if start == "He" else None)
    recipe = digits.recipe(build, seed=seed, rate=rate, epochs=epochs)
    budget = digits.budget(build(), digits.batch())
    theory = gd.predict(recipe)
    outcome = gd.train(recipe)
    return {
        "decades": budget.total,
        "course": curves.course(budget),
        "theory": curves.course(theory.budget),
        "accuracy": outcome.evaluation or 0.0,
    }


def _lost(table: Table, activation: str, start: str = "torch") -> Numbers:
    here = table.where(activation=activation, start=start)
    return here.of("decades", rate=here.each("rate")[0])


def _kept(table: Table, instead: str) -> Numbers:
    """Decades of gradient that the best of the family keeps beyond the activation that it takes the place of."""
    best = np.max([_lost(table, activation) for activation in FAMILY], axis=0)
    return np.asarray(best - _lost(table, instead))


def _gain(table: Table, activation: str, start: str) -> Numbers:
    """By how much the accuracy is higher than with tanh and torch's start, each at its best rate."""
    before = table.tuned("accuracy", over="rate", activation="tanh", start="torch")
    return table.tuned("accuracy", over="rate", activation=activation, start=start) - before


EXPERIMENT = Experiment(
    name="relu-family",
    title="ReLU, leaky ReLU, PReLU",
    claim="ReLU, leaky ReLU and PReLU cure the vanishing gradient.",
    source="Told everywhere, after Glorot, Bordes & Bengio 2011, Maas, Hannun & Ng 2013 and He et al. 2015",
    expected="Theory, decades a layer with torch's start: sigmoid 0.85, tanh 0.24, ReLU and leaky ReLU 0.39, PReLU "
    "0.38; with the start that belongs to each of the three (He et al. 2015, section 2.2): none. Half of all units are "
    "off, and half of the gradient's square is lost with them.",
    scaled="20 layers of 64 units, 8 x 8 digits. What must carry over: with which start the swap helps, and with which "
    "not. The papers changed the start too, or trained networks of few layers.",
    lesson="Better than sigmoid, worse than tanh: the activation alone cures nothing at this depth, and torch's Linear "
    "does not start as ReLU needs. With He's start all three train. A slope below 0 keeps units alive; it hardly "
    "changes what is lost on the way.",
    measure=measure,
    arms=(
        *cross(activation=[*ACTIVATIONS], start=["torch"], rate=(0.005, 0.02, 0.1), epochs=[25]),
        *cross(activation=[*FAMILY], start=["He"], rate=(0.005, 0.02, 0.1), epochs=[25]),
    ),
    quick=(
        *cross(activation=[*ACTIVATIONS], start=["torch"], rate=(0.005, 0.1), epochs=[10]),
        *cross(activation=[*FAMILY], start=["He"], rate=(0.005, 0.1), epochs=[10]),
    ),
    questions=(
        Question(
            f"With tanh and torch's start, {DEEP} layers lose three decades of gradient or more.",
            partial(_lost, activation="tanh"),
            below=-3.0,
            unit="decades",
            control=True,
        ),
        Question(
            "In place of sigmoid, they keep three decades more, nothing else being changed.",
            partial(_kept, instead="sigmoid"),
            above=3.0,
            unit="decades",
        ),
        Question(
            "In place of tanh, they keep more.",
            partial(_kept, instead="tanh"),
            above=0.0,
            unit="decades",
        ),
        *(
            Question(
                f"{activation} in place of tanh gains 0.3 in accuracy, nothing else being changed.",
                partial(_gain, activation=activation, start="torch"),
                above=0.3,
                unit="accuracy",
            )
            for activation in FAMILY
        ),
        *(
            Question(
                f"{activation} gains 0.3 in accuracy with He's start.",
                partial(_gain, activation=activation, start="He"),
                above=0.3,
                unit="accuracy",
            )
            for activation in FAMILY
        ),
    ),
    pictures=(
        Picture(
            "course",
            "gradient over that at the last layer, decades",
            x_title=f"layer, of {DEEP}",
            by="activation",
            panel="start",
            where={"rate": 0.005},
            names=STARTS,
            expected="theory",
            first=1,
        ),
        Picture(
            "accuracy",
            "test accuracy",
            x="rate",
            x_title="learning rate",
            by="activation",
            panel="start",
            log_x=True,
            names=STARTS,
        ),
    ),
    verdict="only under these conditions",
)
