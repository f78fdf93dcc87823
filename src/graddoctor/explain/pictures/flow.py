"""Untrained networks, looked at once: what happens to the gradient and to the signal from layer to layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.explain.picture import Control, Study
from graddoctor.lab import digits
from graddoctor.lab.experiment import cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured

WIDTH = 128
BINS = np.linspace(-8, 8, 41)
"""Edges of the histogram of what enters the activations."""

ACTIVATIONS: dict[str, Any] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "none": nn.Identity,
}
SCALES = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)
DEPTHS = (3, 5, 10, 15, 20, 30, 40, 50)
SIGNALLED = 20
"""The depth at which the signal is followed."""

ACTIVATION = Control("activation", "activation", tuple(ACTIVATIONS), "sigmoid")
SCALE = Control("scale", "scale of the weights, σ_w", SCALES, 1.0)
DEPTH = Control("depth", "depth", DEPTHS, 20, "layers")


def measure(seed: int, activation: str, scale: float) -> Measured:
    """Build networks of every depth, and look at each with one batch of digits."""
    measured: dict[str, Any] = {}
    start = partial(_gaussian, scale=scale)
    batch = digits.batch(64)
    for depth in DEPTHS:
        torch.manual_seed(seed)
        model = stack(depth, ACTIVATIONS[activation], width=WIDTH, start=start)
        budget = digits.budget(model, batch)
        measured[f"gradient {depth}"] = _backward(budget, depth)
        measured[f"signal {depth}"] = _forward(budget, depth)
        if depth == max(DEPTHS):
            measured |= _entering(model, batch[0])
        if depth == SIGNALLED:
            measured["unlike"] = _unlike(model, batch[0])
    measured["theory"] = _theory(activation, scale)
    return measured


def _gaussian(weight: Tensor, scale: float) -> Tensor:
    return nn.init.normal_(weight, std=scale / weight.shape[1] ** 0.5)


def _backward(budget: gd.Budget, depth: int) -> list[float]:
    """Decades of the gradient at each hidden layer against the last one; NaN where there is nothing left."""
    between = budget.rows[1 - depth : -1]  # before them the first activation, behind them the last weights
    changes = [row.decades if row.start_norm > 0 else np.nan for row in between]
    return [*np.cumsum(changes[::-1])[::-1].tolist(), 0.0]


def _forward(budget: gd.Budget, depth: int) -> list[float]:
    """Decades of the spread between samples in each hidden layer against the first one."""
    changes = [change for _, change in budget.signal.rows[1 - depth : -1]]
    return [float(total) for total in np.cumsum([0.0, *changes])]


@torch.no_grad()
def _unlike(model: nn.Sequential, signal: Tensor) -> list[float]:
    """The spread between samples in each hidden layer, against the size of the signal there."""
    shares = []
    for place, layer in enumerate([*model][:-1]):
        signal = layer(signal)
        if place % 2:
            spread = (signal - signal.mean(dim=0)).norm()
            shares.append(float(spread / signal.norm().clamp(min=torch.finfo(signal.dtype).tiny)))
    return shares


@torch.no_grad()
def _entering(model: nn.Sequential, images: Tensor) -> Measured:
    """How what enters the activations is distributed in the tenth hidden layer, and how steep they are there."""
    entering = model[:19](images)
    with torch.enable_grad():
        given = entering.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model[19](given).sum(), given)
    shares, _ = np.histogram(entering.clamp(BINS[0], BINS[-1]).numpy(), bins=BINS)
    flat = (slope.abs() < 0.1 * slope.abs().max().clamp(min=1e-30)).float().mean()
    return {
        "entering": (shares / max(shares.sum(), 1)).tolist(),
        "slope": float(slope.square().mean().sqrt()),
        "flat": float(flat),
    }


def _theory(activation: str, scale: float) -> float:
    """Decades a layer that mean-field theory expects of the gradient (Schoenholz et al. 2017)."""
    name = {"none": "identity"}.get(activation, activation.lower())
    return gd.predict(depth=20, width=WIDTH, activation=name, weight_std=scale).decades_per_layer


FLOW = Study("untrained networks", measure, cross(activation=tuple(ACTIVATIONS), scale=SCALES))
