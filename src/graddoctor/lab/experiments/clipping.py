"""Gradient clipping stops explosion, and does nothing for a gradient that vanishes."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.nn.utils import clip_grad_norm_

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured

DEPTH = 20
HE = (2 / 64) ** 0.5  # standard deviation of He's start for the width of the hidden layers


def measure(seed: int, patient: str, clip: float | None, rate: float, epochs: int) -> Measured:
    """Train one sick network, with or without clipping."""
    builds = {
        "exploding": partial(stack, DEPTH, nn.ReLU, start=partial(nn.init.normal_, std=1.4 * HE)),
        "vanishing": partial(stack, DEPTH, nn.Tanh),
    }
    recipe = digits.recipe(
        builds[patient],
        seed=seed,
        rate=rate,
        epochs=epochs,
        clip=None if clip is None else partial(clip_grad_norm_, max_norm=clip),
    )
    return {"accuracy": gd.train(recipe).evaluation or 0.0}


EXPERIMENT = Experiment(
    name="clipping",
    title="Gradient clipping",
    claim="Clipping the gradient's norm is the remedy for exploding and vanishing gradients.",
    source="Pascanu, Mikolov, Bengio 2013 propose it for explosion alone; tutorials name it for both",
    expected="Pascanu et al. (section 3.2): clipping bounds the step where the gradient explodes. It only ever makes "
    "a gradient smaller, so there is nothing that it could do where one vanishes.",
    scaled="Plain networks of 20 layers and 64 units on 8 x 8 digits instead of recurrent ones. What must carry "
    "over: a gain where gradients explode, none where they vanish. How large the gain is need not.",
    lesson="Clip where single steps are too long. Where early layers get no gradient, change the start, the "
    "activation or the shape of the network.",
    measure=measure,
    arms=cross(patient=("exploding", "vanishing"), clip=(None, 1.0), rate=(0.01, 0.03, 0.1), epochs=(30,)),
    quick=cross(patient=("exploding", "vanishing"), clip=(None, 1.0), rate=(0.01, 0.03), epochs=(15,)),
    questions=(
        Question(
            "Without clipping, the exploding network learns badly at every rate.",
            lambda table: table.tuned("accuracy", over="rate", patient="exploding", clip=None),
            below=0.5,
            unit="accuracy",
            control=True,
        ),
        Question(
            "Clipping makes the exploding network learn.",
            lambda table: (
                table.tuned("accuracy", over="rate", patient="exploding", clip=1.0)
                - table.tuned("accuracy", over="rate", patient="exploding", clip=None)
            ),
            above=0.2,
            unit="accuracy",
        ),
        Question(
            "Clipping makes the vanishing network learn.",
            lambda table: (
                table.tuned("accuracy", over="rate", patient="vanishing", clip=1.0)
                - table.tuned("accuracy", over="rate", patient="vanishing", clip=None)
            ),
            above=0.1,
            unit="accuracy",
        ),
    ),
    pictures=(
        Picture(
            "accuracy",
            "test accuracy",
            x="rate",
            x_title="learning rate",
            by="clip",
            panel="patient",
            log_x=True,
            names={"clip": {None: "no clipping", 1.0: "norm clipped at 1"}},
        ),
    ),
    verdict="only under these conditions",
)
