"""Networks that are trained: four patients, three depths, and what is said to help."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.explain.picture import Control, Study
from graddoctor.lab import digits
from graddoctor.lab.curves import losses
from graddoctor.lab.experiment import cross
from graddoctor.lab.looking import Every
from graddoctor.lab.table import Measured
from graddoctor.theory import gain

WIDTH, EPOCHS = 64, 16
RATES, ADAM_RATES = (0.01, 0.1), (0.001, 0.003)
POINTS = 44
"""Points of a curve of losses."""

NOTHING = "nothing changed"
BLAND = 1.02
"""A loss that is kept from being drawn above so many times that of guessing."""


@dataclass(frozen=True)
class Plan:
    """How a network is built and trained."""

    activation: Callable[[], nn.Module]
    scale: float | None = None  # σ_w; torch's own start if left out
    normalised: bool = False
    skips: bool = False
    adam: bool = False
    clip: float | None = None


PATIENTS: dict[str, Plan] = {
    "sigmoid": Plan(nn.Sigmoid),
    "tanh": Plan(nn.Tanh),
    "ReLU": Plan(nn.ReLU),
    "ReLU, weights too large": Plan(nn.ReLU, scale=2.2),
}
REMEDIES: dict[str, Callable[[Plan], Plan]] = {
    NOTHING: lambda plan: plan,
    "weights at their best scale": lambda plan: replace(plan, scale=critical(plan.activation)),
    "leaky ReLU and its weights": lambda plan: replace(plan, activation=nn.LeakyReLU, scale=critical(nn.LeakyReLU)),
    "batch normalization": lambda plan: replace(plan, normalised=True),
    "skip connections": lambda plan: replace(plan, skips=True),
    "Adam": lambda plan: replace(plan, adam=True),
    "clipping at norm 1": lambda plan: replace(plan, clip=1.0),
}
DEPTHS = (3, 7, 12, 20)

PATIENT = Control("patient", "activation", tuple(PATIENTS), "sigmoid")
DEPTH = Control("depth", "depth", DEPTHS, 12, "layers")


def critical(activation: Callable[[], nn.Module]) -> float:
    """The scale of weights that suits an activation best."""
    return gain(activation()).weight_std


class Block(nn.Module):
    """A layer of weights and what follows it, with or without a way past both."""

    def __init__(self, inner: nn.Sequential, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layer makes of it, or hand that on alone."""
        made: Tensor = self.inner(x)
        return x + self.share * made if self.share else made


def build(plan: Plan, depth: int) -> nn.Sequential:
    """`depth` layers of weights."""
    widths = [digits.PIXELS, *[WIDTH] * (depth - 1)]
    blocks = [_block(plan, before, after, depth) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, digits.CLASSES))


def _block(plan: Plan, before: int, after: int, depth: int) -> Block:
    linear = nn.Linear(before, after)
    if plan.scale is not None:
        nn.init.normal_(linear.weight, std=plan.scale / before**0.5)
        nn.init.zeros_(linear.bias)
    norm = [nn.BatchNorm1d(after)] if plan.normalised else []
    past = plan.skips and before == after
    return Block(nn.Sequential(linear, *norm, plan.activation()), depth**-0.5 if past else 0.0)


def measure(seed: int, patient: str, depth: int, remedy: str) -> Measured:
    """Train one patient at either rate; the run that ends with the lower loss is kept."""
    plan = REMEDIES[remedy](PATIENTS[patient])
    runs = [_trained(plan, depth, rate, seed) for rate in (ADAM_RATES if plan.adam else RATES)]
    return min(runs, key=lambda run: run["loss"][-1])


def _trained(plan: Plan, depth: int, rate: float, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    recipe = digits.recipe(partial(build, plan, depth), seed=seed, rate=rate, epochs=EPOCHS, **_parts(plan, rate))
    looks = Every(10**6, lambda model, _: weights(model))
    outcome = gd.train(recipe, observer=looks)
    ends = zip(weights(outcome.model), looks.readings[0], strict=True)
    guess, seen = math.log(digits.CLASSES), losses(outcome)
    means = seen[: len(seen) // POINTS * POINTS].reshape(POINTS, -1).mean(axis=1)
    return {
        "loss": np.clip(np.nan_to_num(means, nan=BLAND * guess), 0, BLAND * guess).tolist(),
        "accuracy": outcome.evaluation or 0.0,
        "moved": [float((now - at).norm() / at.norm()) for now, at in ends],
        "every": len(seen) / POINTS,
        "rate": rate,
    }


def _parts(plan: Plan, rate: float) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if plan.adam:
        parts["optimizer"] = lambda model: torch.optim.Adam(model.parameters(), lr=rate)
    if plan.clip is not None:
        parts["clip"] = partial(nn.utils.clip_grad_norm_, max_norm=plan.clip)
    return parts


def weights(model: nn.Module) -> list[Tensor]:
    """The weights of every layer, as they are now."""
    return [module.weight.detach().clone() for module in model.modules() if isinstance(module, nn.Linear)]


TRAINING = Study("networks in training", measure, cross(patient=tuple(PATIENTS), depth=DEPTHS, remedy=tuple(REMEDIES)))
