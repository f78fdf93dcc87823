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

STARTS = ("Gaussian", "orthogonal")
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "linear": (nn.Identity, 1.0),
    "tanh": (nn.Tanh, 1.05),
    "ReLU": (nn.ReLU, math.sqrt(2)),
}
"""And the σ_w that keeps the mean square of the gradient, or for tanh a little above."""

RATES = (0.01, 0.03, 0.1)
ENOUGH, STEPS = 0.5, 8 * 11  # the loss that has to be reached, and what counts for a run that does not reach it
DEEP = {"look": "training", "activation": "linear", "depth": 50}


def _start(name: str, scale: float) -> Start:
    if name == "orthogonal":
        return partial(nn.init.orthogonal_, gain=scale)
    return lambda weight: nn.init.normal_(weight, std=scale / math.sqrt(weight.shape[1]))


def measure(seed: int, look: str, activation: str, start: str, depth: int) -> Measured:
    """Take the singular values of an untrained stack's Jacobian, or the steps until it has learned."""
    function, scale = ACTIVATIONS[activation]
    build = partial(stack, depth, function, start=_start(start, scale))
    if look == "jacobian":
        body = nn.Sequential(*list(build())[:-1])  # without the output layer
        inputs = digits.batch(8)[0] / 10  # small, where tanh is near its slope of one
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


def _slower(table: Table, activation: str) -> Numbers:
    """Decades of learning time between the deepest and the shallowest network with orthogonal weights."""
    trained = table.where(look="training", activation=activation, start="orthogonal")
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
    source="Saxe, McClelland, Ganguli 2014 (linear networks); Pennington, Schoenholz, Ganguli 2017 (nonlinear ones)",
    expected="Saxe et al.: learning time of deep linear networks is independent of depth from orthogonal weights, "
    "and grows with depth from scaled Gaussian ones. Pennington et al.: orthogonal tanh networks can be near "
    "isometry, rectifiers cannot, whatever the weights.",
    scaled="64 units on digits, up to 50 layers, the rate tuned for each network. That orthogonal beats Gaussian, "
    "more so with depth, and that rectifiers are no isometry, must carry over; times need not.",
    lesson="A mean of one is not enough: with Gaussian weights a few directions carry the signal, the others die. "
    "Orthogonal weights help where the activation is nearly linear. For rectifiers use skip connections.",
    measure=measure,
    arms=cross(look=("jacobian",), activation=tuple(ACTIVATIONS), start=STARTS, depth=(2, 5, 10, 20, 50))
    + cross(look=("training",), activation=("linear", "tanh"), start=STARTS, depth=(5, 20, 50)),
    quick=cross(look=("jacobian",), activation=tuple(ACTIVATIONS), start=STARTS, depth=(5, 50))
    + cross(look=("training",), activation=("linear",), start=STARTS, depth=(5, 50))
    + cross(look=("training",), activation=("tanh",), start=("orthogonal",), depth=(5, 50)),
    questions=(
        *(
            Question(
                f"Most directions get through 50 {activation} layers alike.",
                partial(_held, activation=activation),
                above=0.5,
                unit="share of the singular values",
            )
            for activation in ACTIVATIONS
        ),
        *(
            Question(
                f"Ten times the depth takes an orthogonal {activation} network less than twice the steps.",
                partial(_slower, activation=activation),
                below=math.log10(2),
                unit="decades of steps",
            )
            for activation in ("linear", "tanh")
        ),
        Question(
            "50 linear layers with Gaussian weights of the same variance take more than twice the steps.",
            lambda table: table.difference("log_steps", {"start": "Gaussian"}, {"start": "orthogonal"}, **DEEP),
            above=math.log10(2),
            unit="decades of steps",
        ),
    ),
    pictures=tuple(
        Picture(
            value,
            title,
            x="depth",
            x_title="layers",
            by="start",
            panel="activation",
            where={"look": look},
            log_x=True,
            log_y=value == "steps",
        )
        for look, value, title in (
            ("jacobian", "kept", "share of singular values within a tenth of the largest"),
            ("training", "steps", "steps until the loss is 0.5"),
        )
    ),
    verdict="only under these conditions",
    quick_seeds=5,
)
