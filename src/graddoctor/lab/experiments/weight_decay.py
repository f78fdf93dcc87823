"""Weight decay is no remedy, neither where gradients explode nor where they vanish."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

DEPTH = 20
HE = (2 / 64) ** 0.5  # standard deviation of He's start for the width of the hidden layers
DECAYS = (0.0, 1e-3, 1e-2, 1e-1)
RATES = (0.003, 0.01, 0.03)


def measure(seed: int, patient: str, decay: float, rate: float) -> Measured:
    """Train one sick network with so much weight decay, or an exploding one with He's start instead."""
    builds = {
        "exploding": partial(stack, DEPTH, nn.ReLU, start=partial(nn.init.normal_, std=1.4 * HE)),
        "vanishing": partial(stack, DEPTH, nn.Tanh),
        "cured": partial(stack, DEPTH, nn.ReLU, start=partial(nn.init.normal_, std=HE)),
    }
    recipe = digits.recipe(
        builds[patient],
        seed=seed,
        rate=rate,
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay),
        epochs=20,
    )
    return {"accuracy": gd.train(recipe).evaluation or 0.0}


def _gain(table: Table, patient: str) -> Numbers:
    """Of the decay that is best on the average over no decay, each at its best rate."""
    here = table.where(patient=patient)
    best = {decay: here.tuned("accuracy", over="rate", decay=decay) for decay in here.each("decay")}
    without = best.pop(0.0)
    return max(best.values(), key=lambda one: float(one.mean())) - without


EXPERIMENT = Experiment(
    name="weight-decay",
    title="Weight decay",
    claim="Weight regularization fixes exploding gradients, and vanishing ones.",
    source="Named beside clipping in many tutorials; Pascanu, Mikolov, Bengio 2013 (section 3.1) discuss it for "
    "recurrent weights, and its price",
    expected="A decay of 0.01 at a rate of 0.01 takes a ten-thousandth off the weights a step; a start that is 1.4 "
    "times too large, in each of 20 layers, would take thousands of steps to shrink to size, and has thrown the "
    "weights away in the first. Where a gradient vanishes, smaller weights make it vanish faster.",
    scaled="20 layers of 64 units on digits. That nothing is gained must carry over.",
    lesson="Decay keeps weights from growing slowly through a long training. A start that explodes wants another "
    "start, or a clip.",
    measure=measure,
    arms=cross(patient=("exploding", "vanishing"), decay=DECAYS, rate=RATES)
    + cross(patient=("cured",), decay=(0.0,), rate=RATES),
    quick=cross(patient=("exploding", "vanishing"), decay=(0.0, 1e-2, 1e-1), rate=(0.003, 0.01))
    + cross(patient=("cured",), decay=(0.0,), rate=(0.003, 0.01)),
    questions=(
        Question(
            "With another start, and no decay, the exploding network learns.",
            lambda table: table.tuned("accuracy", over="rate", patient="cured"),
            above=0.5,
            unit="accuracy",
            control=True,
        ),
        Question(
            "Weight decay makes the exploding network learn.",
            lambda table: _gain(table, "exploding"),
            above=0.2,
            unit="accuracy",
        ),
        Question(
            "Weight decay makes the vanishing network learn.",
            lambda table: _gain(table, "vanishing"),
            above=0.2,
            unit="accuracy",
        ),
    ),
    pictures=(
        Picture(
            "accuracy",
            "test accuracy",
            kind="bars",
            x="decay",
            x_title="weight decay",
            by="patient",
            where={"rate": 0.01},
            names={
                "decay": {decay: f"{decay:g}" for decay in DECAYS},
                "patient": {
                    "exploding": "weights too large",
                    "vanishing": "gradient vanishes",
                    "cured": "weights of the right size",
                },
            },
        ),
    ),
    verdict="not reproduced",
)
