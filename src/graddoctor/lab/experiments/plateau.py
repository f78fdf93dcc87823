"""Slow convergence and plateau: what a vanishing gradient looks like from outside."""

from __future__ import annotations

import math
from functools import partial

from torch import nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import Start, stack
from graddoctor.lab.table import Measured, Numbers, Table

ACTIVATIONS = {"tanh": nn.Tanh, "ReLU": nn.ReLU}
CURES: dict[str, Start] = {
    "tanh": nn.init.xavier_normal_,
    "ReLU": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}
DEEP, RATES, RATE = 20, (0.01, 0.1), 0.02  # deep networks at several rates, shallower ones at one


def measure(seed: int, *, activation: str, start: str, depth: int, rate: float, epochs: int) -> Measured:
    """Train a network, and see how long its loss stays where it began."""
    cure = None if start == "torch" else CURES[activation]
    build = partial(stack, depth, ACTIVATIONS[activation], start=cure)
    recipe = digits.recipe(build, seed=seed, rate=rate, epochs=epochs)
    budget = digits.budget(build(), digits.batch())
    outcome = gd.train(recipe)
    return {
        "decades": budget.total,
        "left": float((curves.smooth(outcome) < 0.95 * curves.GUESSING).mean()),
        "steps": math.log10(curves.steps_to(outcome)),
        "loss": curves.epochs(outcome),
    }


def _plateau(table: Table, start: str, activation: str) -> Numbers:
    """Share of the steps that a deep network spends on its plateau, at the rate that suits it best."""
    return 1 - table.tuned("left", over="rate", activation=activation, start=start, depth=DEEP)


def _growth(table: Table, start: str, activation: str) -> Numbers:
    """Decades of steps that another layer costs."""
    return table.slope("steps", over="depth", activation=activation, start=start, rate=RATE)


def _questions(activation: str) -> tuple[Question, ...]:
    cure = "Xavier's" if activation == "tanh" else "He's"
    return (
        Question(
            f"In {DEEP} layers of {activation} with torch's start, the gradient loses three decades or more.",
            lambda table: table.of("decades", activation=activation, start="torch", depth=DEEP, rate=RATES[0]),
            below=-3.0,
            unit="decades",
            control=True,
        ),
        Question(
            "They spend more than half of the training on a plateau, at whichever rate.",
            lambda table: _plateau(table, "torch", activation),
            above=0.5,
            unit="of the steps",
        ),
        Question(
            f"From {cure} start, from which the gradient gets through, it is less than a quarter.",
            lambda table: _plateau(table, "cured", activation),
            below=0.25,
            unit="of the steps",
        ),
        Question(
            f"Shallower networks of {activation} get slower with every layer, by an eighth or more.",
            lambda table: _growth(table, "torch", activation),
            above=math.log10(1.125),
            unit="decades a layer",
        ),
        Question(
            f"From {cure} start, another layer costs less than half as much.",
            lambda table: _growth(table, "cured", activation) / _growth(table, "torch", activation),
            below=0.5,
            unit="of the decades",
        ),
    )


STARTS = ("torch", "cured")
NAMES = {"start": {"torch": "torch's start", "cured": "Xavier's (tanh), He's (ReLU)"}}
EXPERIMENT = Experiment(
    name="plateau",
    title="Slow convergence and plateau",
    claim="Where the gradient vanishes, training converges slowly, or stays on a plateau.",
    source="Told everywhere; Hochreiter 1991 of recurrent networks, Glorot & Bengio 2010 of deep ones",
    expected="A network whose samples all look alike to its last layer can only learn how frequent the classes are: "
    "with 10 of them, the loss stays at ln 10 = 2.30. What little gets through is multiplied from layer to layer, so "
    "the time until something is learnt should be too.",
    scaled="64 units, 8 x 8 digits. What must carry over: the plateau at ln 10, that it goes with the cause, and that "
    "layers multiply the time of training. By which factor depends on the activation and the start.",
    lesson="A loss that stays at ln K is what vanishing looks like. It is not proof of it: a rate that is too high "
    "leads there as well. Where the gradient gets through, it leaves at once, at any of these depths.",
    measure=measure,
    arms=(
        *cross(activation=[*ACTIVATIONS], start=STARTS, depth=[DEEP], rate=(0.003, *RATES), epochs=[40]),
        *cross(activation=[*ACTIVATIONS], start=STARTS, depth=(4, 6, 8), rate=[RATE], epochs=[60]),
    ),
    quick=(
        *cross(activation=[*ACTIVATIONS], start=STARTS, depth=[DEEP], rate=RATES, epochs=[15]),
        *cross(activation=[*ACTIVATIONS], start=STARTS, depth=(4, 8), rate=[RATE], epochs=[40]),
    ),
    questions=tuple(question for activation in ACTIVATIONS for question in _questions(activation)),
    pictures=(
        Picture(
            "loss",
            f"training loss, {DEEP} layers",
            x_title="epoch",
            by="start",
            panel="activation",
            where={"depth": DEEP, "rate": RATES[0]},
            names=NAMES,
            first=1,
        ),
        Picture(
            "steps",
            "steps until the loss is halved, decades",
            x="depth",
            x_title="layers",
            by="start",
            panel="activation",
            where={"rate": RATE},
            names=NAMES,
        ),
        Picture(
            "left",
            f"steps off the plateau, share, {DEEP} layers",
            x="rate",
            x_title="learning rate",
            by="start",
            panel="activation",
            where={"depth": DEEP},
            names=NAMES,
            log_x=True,
        ),
    ),
    verdict="reproduced",
)
