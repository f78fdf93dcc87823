"""The edge of stability: full-batch gradient descent sharpens until its steps are as long as they can be."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.looking import Every
from graddoctor.lab.table import Measured, Numbers, Table

SAMPLES = 256
EVERY = 50  # steps between two looks at the sharpness
RATES = {rate: f"rate {rate:g}" for rate in (0.05, 0.1, 0.2, 0.4)}


@functools.cache
def _batch() -> tuple[Tensor, Tensor]:
    """The same images at every step."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, labels = digits.batch(SAMPLES)
    return images, one_hot(labels, digits.CLASSES).float()


def network() -> nn.Sequential:
    """Two hidden layers of tanh."""
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the squared error of a sample, as in the paper."""
    return mse_loss(model(batch[0]), batch[1], reduction="sum") / (2 * len(batch[0]))


def sharpness(model: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """Largest eigenvalue of the Hessian of the loss, by power iteration."""
    weights = list(model.parameters())
    draw = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=draw) for p in weights]
    value = 0.0
    with torch.enable_grad():
        gradient = torch.autograd.grad(loss(model, batch), weights, create_graph=True)
    for _ in range(20):
        norm = math.sqrt(sum(float(part.square().sum()) for part in direction))
        direction = [part / norm for part in direction]
        product = torch.autograd.grad(gradient, weights, direction, retain_graph=True)
        value = sum(float((part * moved).sum()) for part, moved in zip(direction, product, strict=True))
        direction = list(product)
    return value


def measure(seed: int, rate: float, steps: int) -> Measured:
    """Descend with all samples at every step, and follow loss and sharpness."""
    looks = Every(EVERY, sharpness)
    recipe = gd.Recipe(
        model=network,
        loss=loss,
        batches=lambda: [_batch()],
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=rate),
        epochs=steps,
        seed=seed,
    )
    losses = gd.train(recipe, observer=looks).losses
    edge = np.array(looks.readings) * rate / 2
    late = len(edge) // 3
    third = len(losses) // 3
    return {
        "edge": edge.tolist(),
        "first": float(edge[0]),
        "late": float(np.median(edge[-late:])),
        "rises": float((np.diff(losses[-third:]) > 0).mean()),
        "falls": float(np.log10(losses[-2 * third] / losses[-20:].mean())),
        "loss": losses[::EVERY].tolist(),
    }


def _settles(table: Table, rate: float) -> Numbers:
    """How far the sharpness ends from what the rate allows, as a share of it."""
    return np.abs(table.of("late", rate=rate) - 1)


EXPERIMENT = Experiment(
    name="edge-of-stability",
    title="The edge of stability",
    claim="Full-batch gradient descent sharpens until its learning rate is as large as it can be, and goes on at "
    "this edge.",
    source="Cohen, Kaur, Li, Kolter, Talwalkar 2021, Gradient descent on neural networks typically occurs at the "
    "edge of stability",
    expected="The largest eigenvalue of the Hessian rises to 2 / rate and hovers there; the loss no longer falls at "
    "every step, but over many steps it does.",
    scaled="A network of two hidden layers of 32 tanh units on 256 digits, squared error, all of them in each step. "
    "The value of the edge, and that the loss goes on falling, must carry over.",
    lesson="A loss that rises at every third step is no sign of a rate too large, as long as it falls over many. The "
    "sharpness that a network has at its start says little of the rate that it stands.",
    measure=measure,
    arms=cross(rate=(0.05, 0.1, 0.2, 0.4), steps=(3000,)),
    quick=cross(rate=(0.1, 0.4), steps=(2000,)),
    questions=(
        Question(
            "Below the edge at first, the sharpness rises (rate 0.1).",
            lambda table: table.of("late", rate=0.1) - table.of("first", rate=0.1),
            above=0.15,
            unit="of 2 / rate",
        ),
        Question(
            "It settles at 2 / rate (rate 0.1).", lambda table: _settles(table, 0.1), below=0.15, unit="of 2 / rate"
        ),
        Question(
            "It settles at 2 / rate (rate 0.4).", lambda table: _settles(table, 0.4), below=0.15, unit="of 2 / rate"
        ),
        Question(
            "There the loss rises at many steps (rate 0.4).",
            lambda table: table.of("rises", rate=0.4),
            above=0.05,
            unit="share of the steps",
        ),
        Question(
            "Over many steps it falls all the same (rate 0.4).",
            lambda table: table.of("falls", rate=0.4),
            above=0.1,
            unit="decades",
        ),
    ),
    pictures=(
        Picture("edge", "sharpness x rate / 2", x_title="step", by="rate", every=EVERY, names={"rate": RATES}),
        Picture("loss", "loss", x_title="step", by="rate", every=EVERY, log_y=True, names={"rate": RATES}),
    ),
    verdict="reproduced",
)
