"""Dynamical isometry: all singular values at one, and learning time that does not depend on depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import Start, stack
from graddoctor.lab.table import Measured, Numbers, Table

WIDTH = 64
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "linear": (nn.Identity, 1.0),
    "tanh": (nn.Tanh, 1.05),
    "ReLU": (nn.ReLU, math.sqrt(2)),
}
"""And the σ_w that keeps the mean square of the gradient, or for tanh a little above."""

RATES = (0.01, 0.03, 0.1)
ENOUGH = 0.5  # the loss that has to be reached; guessing costs 2.3
STEPS = 8 * 11  # a run that does not reach it counts as this many


def _start(name: str, scale: float) -> Start:
    if name == "orthogonal":
        return partial(nn.init.orthogonal_, gain=scale)
    return lambda weight: nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))


def measure(seed: int, look: str, activation: str, start: str, depth: int) -> Measured:
    """Take the singular values of an untrained stack's Jacobian, or the steps until it has learned."""
    function, scale = ACTIVATIONS[activation]
    build = partial(stack, depth, function, width=WIDTH, start=_start(start, scale))
    if look == "jacobian":
        body = nn.Sequential(*list(build())[:-1])  # without the output layer
        inputs = next(iter(digits.Shuffled(8)))[0] / 10  # small, where tanh is near its slope of one
        found = [torch.linalg.svdvals(torch.func.jacrev(body)(image)).detach() for image in inputs]
        return {"kept": float(np.mean([_kept(values) for values in found]))}
    steps = [_steps(build, seed, rate) for rate in RATES]
    return {"steps": float(min(steps)), "log_steps": math.log10(min(steps))}


def _kept(values: torch.Tensor) -> float:
    """Share of the singular values within a factor of ten of the largest."""
    return float((values > values.max() / 10).double().mean())


def _steps(build: Callable[[], nn.Module], seed: int, rate: float) -> int:
    sgd = lambda model: torch.optim.SGD(model.parameters(), lr=rate)  # noqa: E731 - as a recipe has it
    losses = gd.train(digits.recipe(build, seed=seed, rate=rate, optimizer=sgd, epochs=8)).losses
    smooth = np.convolve(losses, np.ones(5) / 5, mode="valid")
    reached = np.flatnonzero(smooth < ENOUGH)
    return int(reached[0]) + 1 if len(reached) else STEPS


def _slower(table: Table, activation: str, start: str) -> Numbers:
    """Decades of learning time between the deepest and the shallowest network."""
    trained = table.where(look="training", activation=activation, start=start)
    depths = sorted(trained.each("depth"))
    return trained.difference("log_steps", {"depth": depths[-1]}, {"depth": depths[0]})


def _held(table: Table, activation: str) -> Numbers:
    """Share of the directions that 50 layers of orthogonal weights hand on alike."""
    return table.of("kept", look="jacobian", activation=activation, start="orthogonal", depth=50)


EXPERIMENT = Experiment(
    name="isometry",
    title="Dynamical isometry",
    claim="With orthogonal weights all singular values of the Jacobian stay near one, and learning time does not "
    "depend on depth.",
    source="Saxe, McClelland, Ganguli 2014 (deep linear networks); Pennington, Schoenholz, Ganguli 2017 (nonlinear "
    "ones)",
    expected="Saxe et al.: learning time of deep linear networks is independent of depth from orthogonal weights, "
    "and grows with depth from scaled Gaussian ones. Pennington et al.: orthogonal tanh networks can be near "
    "isometry, rectifiers cannot, whatever the weights.",
    scaled="64 units on digits, up to 50 layers, the rate tuned for each network. That orthogonal beats Gaussian, "
    "more so with depth, and that rectifiers are no isometry, must carry over; times need not.",
    lesson="A mean of one is not enough: with Gaussian weights a few directions carry the signal, the others die. "
    "Orthogonal weights help where the activation is nearly linear. For rectifiers use skip connections.",
    measure=measure,
    arms=cross(
        look=("jacobian",), activation=tuple(ACTIVATIONS), start=("Gaussian", "orthogonal"), depth=(2, 5, 10, 20, 50)
    )
    + cross(look=("training",), activation=("linear", "tanh"), start=("Gaussian", "orthogonal"), depth=(5, 20, 50)),
    quick=cross(look=("jacobian",), activation=tuple(ACTIVATIONS), start=("Gaussian", "orthogonal"), depth=(5, 50))
    + cross(look=("training",), activation=("linear",), start=("Gaussian", "orthogonal"), depth=(5, 50))
    + cross(look=("training",), activation=("tanh",), start=("orthogonal",), depth=(5, 50)),
    questions=(
        Question(
            "Most directions get through 50 linear layers alike.",
            lambda table: _held(table, "linear"),
            above=0.5,
            unit="share of the singular values",
        ),
        Question(
            "So they do through 50 tanh layers.",
            lambda table: _held(table, "tanh"),
            above=0.5,
            unit="share of the singular values",
        ),
        Question(
            "So they do through 50 ReLU layers.",
            lambda table: _held(table, "ReLU"),
            above=0.5,
            unit="share of the singular values",
        ),
        Question(
            "Ten times the depth takes a linear network less than twice the steps.",
            lambda table: _slower(table, "linear", "orthogonal"),
            below=math.log10(2),
            unit="decades of steps",
        ),
        Question(
            "So it is with tanh.",
            lambda table: _slower(table, "tanh", "orthogonal"),
            below=math.log10(2),
            unit="decades of steps",
        ),
        Question(
            "With Gaussian weights of the same variance it takes more than twice the steps.",
            lambda table: _slower(table, "linear", "Gaussian"),
            above=math.log10(2),
            unit="decades of steps",
        ),
    ),
    pictures=(
        Picture(
            "kept",
            "share of singular values within a tenth of the largest",
            x="depth",
            x_title="layers",
            by="start",
            panel="activation",
            where={"look": "jacobian"},
            log_x=True,
        ),
        Picture(
            "steps",
            "steps until the loss is 0.5",
            x="depth",
            x_title="layers",
            by="start",
            panel="activation",
            where={"look": "training"},
            log_x=True,
            log_y=True,
        ),
    ),
    verdict="only under these conditions",
)
