"""Xavier's start against the uniform start that was common before it, and is torch's still."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import Start, stack
from graddoctor.lab.table import Measured, Numbers, Table

ACTIVATIONS = {"tanh": nn.Tanh, "softsign": nn.Softsign, "sigmoid": nn.Sigmoid}
DEEP, PAPER = 20, 6  # layers; the paper's networks have 5 hidden ones


def old(weights: Tensor) -> Tensor:
    """Draw from U(±1/√fan_in): variance 1/(3 fan_in)."""
    bound = weights.shape[1] ** -0.5
    return nn.init.uniform_(weights, -bound, bound)


STARTS: dict[str, Start] = {"old": old, "Xavier": nn.init.xavier_uniform_}


def measure(seed: int, *, activation: str, start: str, depth: int, rate: float, epochs: int) -> Measured:
    """Look at a network before it is trained, and at what training makes of it."""
    build = partial(stack, depth, ACTIVATIONS[activation], start=STARTS[start])
    recipe = digits.recipe(build, seed=seed, rate=rate, epochs=epochs)
    budget = digits.budget(build(), digits.batch())
    theory = gd.predict(recipe)
    outcome = gd.train(recipe)
    return {
        "decades": budget.total,
        "course": curves.course(budget),
        "theory": curves.course(theory.budget),
        "accuracy": outcome.evaluation or 0.0,
        "sooner": -math.log10(curves.steps_to(outcome)),
    }


def _gain(table: Table, value: str, activation: str, depth: int = DEEP) -> Numbers:
    """How much higher a value is from Xavier's start, each start at its best rate."""
    here = table.where(activation=activation, depth=depth)
    return here.tuned(value, over="rate", start="Xavier") - here.tuned(value, over="rate", start="old")


def _lost(table: Table, start: str, activation: str = "tanh") -> Numbers:
    here = table.where(activation=activation, start=start, depth=DEEP)
    return here.of("decades", rate=here.each("rate")[0])


EXPERIMENT = Experiment(
    name="xavier",
    title="Xavier's start",
    claim="Xavier's start cures the vanishing gradient of deep networks.",
    source="Glorot & Bengio 2010, section 4.2, figures 6 and 7 and table 1",
    expected="From U(±1/√n), of variance 1/(3n), the gradient of tanh networks shrinks from layer to layer (figure 7, "
    "top); from Xavier's, of variance 2/(n_in + n_out), it does not (bottom), and 5 hidden layers learn sooner and "
    "better. Softsign gains less. Theory: 0.24 decades a layer with tanh and softsign, against none that adds "
    "up; 0.85 against 0.63 with sigmoid.",
    scaled="64 units instead of 1,000, 8 x 8 digits; 6 layers as in the paper, and 20. What must carry over: which "
    "networks gain, and that the gradient keeps its size. By how many per cent the error falls need not.",
    lesson="For activations whose slope at 0 is 1, such as tanh and softsign, Xavier's start is the difference between "
    "nothing and everything at 20 layers. Torch's own start is still the old one. Sigmoid's slope is 1/4, and no "
    "weights of that size make up for it.",
    measure=measure,
    arms=(
        *cross(activation=[*ACTIVATIONS], start=[*STARTS], depth=[DEEP], rate=(0.01, 0.03, 0.1), epochs=[25]),
        *cross(activation=["tanh"], start=[*STARTS], depth=[PAPER], rate=(0.01, 0.03, 0.1), epochs=[25]),
    ),
    quick=(
        *cross(activation=[*ACTIVATIONS], start=[*STARTS], depth=[DEEP], rate=(0.03, 0.1), epochs=[12]),
        *cross(activation=["tanh"], start=[*STARTS], depth=[PAPER], rate=(0.03, 0.1), epochs=[12]),
    ),
    questions=(
        Question(
            f"From the old start, {DEEP} layers of tanh lose three decades of gradient or more.",
            lambda table: _lost(table, "old"),
            below=-3.0,
            unit="decades",
            control=True,
        ),
        Question(
            "From Xavier's start, they lose less than one and a half.",
            lambda table: _lost(table, "Xavier"),
            above=-1.5,
            unit="decades",
        ),
        Question(
            f"{PAPER} layers of tanh halve their loss in less than two thirds of the steps.",
            lambda table: _gain(table, "sooner", "tanh", PAPER),
            above=math.log10(1.5),
            unit="decades of steps",
        ),
        *(
            Question(
                f"{DEEP} layers of {activation} gain 0.3 in accuracy.",
                partial(_gain, value="accuracy", activation=activation),
                above=0.3,
                unit="accuracy",
            )
            for activation in ACTIVATIONS
        ),
    ),
    pictures=(
        Picture(
            "course",
            "gradient over that at the last layer, decades",
            x_title=f"layer, of {DEEP} with tanh",
            by="start",
            where={"activation": "tanh", "depth": DEEP, "rate": 0.03},
            expected="theory",
            first=1,
        ),
        Picture(
            "accuracy",
            f"test accuracy, {DEEP} layers",
            x="rate",
            x_title="learning rate",
            by="start",
            panel="activation",
            where={"depth": DEEP},
            log_x=True,
        ),
    ),
    verdict="only under these conditions",
)
