"""Shattered gradients: with depth, plain rectifiers answer neighbouring inputs with unrelated gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.residual import Block
from graddoctor.lab.table import Measured, Numbers, Table

WIDTH = 200
POINTS = 256  # inputs, evenly spread from -2 to 2, as in the paper
NETWORKS = 8  # drawn for one number
NETS = {"plain": "plain", "normalized": "plain, batch normalization", "residual": "residual, batch normalization"}


def network(net: str, depth: int) -> nn.Sequential:
    """So many layers of 200 rectifiers with He's start, on one number."""
    layers: list[nn.Module] = [_layer(1, net)]
    for _ in range(depth - 1):
        layer = _layer(WIDTH, net)
        layers.append(Block(layer) if net == "residual" else layer)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1))


def _layer(inputs: int, net: str) -> nn.Sequential:
    linear = nn.Linear(inputs, WIDTH)
    nn.init.kaiming_normal_(linear.weight)
    nn.init.normal_(linear.bias, std=1.0 if inputs == 1 else 0.0)
    norm: list[nn.Module] = [] if net == "plain" else [nn.BatchNorm1d(WIDTH)]
    return (
        nn.Sequential(linear, *norm, nn.ReLU())
        if inputs == 1 or net != "residual"
        else nn.Sequential(*norm, nn.ReLU(), linear)
    )


def measure(seed: int, net: str, depth: int) -> Measured:
    """Correlate the gradients of neighbouring inputs, over several networks."""
    found = [_autocorrelation(network(net, depth)) for _ in range(NETWORKS)]
    curve = np.mean(found, axis=0)
    return {"correlation": curve.tolist(), "neighbours": float(curve[1])}


def _autocorrelation(model: nn.Module) -> list[float]:
    """Of the gradient along the line of inputs: at distances of 0, 1, ... 15 points."""
    line = torch.linspace(-2, 2, POINTS)[:, None].requires_grad_()
    (gradient,) = torch.autograd.grad(model(line).sum(), line)
    centred: Tensor = gradient[:, 0].double() - gradient.double().mean()
    power = centred.square().mean().clamp_min(1e-300)
    return [float((centred[: POINTS - lag] * centred[lag:]).mean() / power) for lag in range(16)]


def _neighbours(table: Table, net: str) -> Numbers:
    return table.of("neighbours", net=net, depth=24)


EXPERIMENT = Experiment(
    name="shattered-gradients",
    title="Shattered gradients",
    claim="With depth, gradients of neighbouring inputs have less and less to do with one another, unless there are "
    "skip connections.",
    source="Balduzzi et al. 2017, The shattered gradients problem (figures 1 and 2)",
    expected="Correlations between gradients fall as 2^-L in plain networks of rectifiers, whose gradient looks like "
    "white noise behind 24 layers, and as 1/sqrt(L) in residual ones with batch normalization, where it looks like "
    "brown noise behind 50.",
    scaled="As in the paper: 200 rectifiers a layer, 256 inputs on a line, nothing is trained; biases of one in the "
    "first layer only. The order of the networks must carry over. The exponents need not: they are those of inputs "
    "that have nothing in common, and neighbours have much.",
    lesson="Keeping the gradient's size is not enough: normalization keeps samples apart, and so tears the gradients "
    "of neighbours apart, which a budget cannot see. Skip connections hold them together. Without normalization "
    "rectifiers make all inputs alike instead, and nothing is shattered.",
    measure=measure,
    arms=cross(net=tuple(NETS), depth=(2, 4, 8, 16, 24, 50)),
    quick=cross(net=tuple(NETS), depth=(4, 24)),
    questions=(
        Question(
            "Behind 24 normalized layers without skips, the gradients of neighbours are unrelated.",
            lambda table: _neighbours(table, "normalized"),
            below=0.2,
            unit="correlation",
        ),
        Question(
            "With skips they are not.", lambda table: _neighbours(table, "residual"), above=0.4, unit="correlation"
        ),
        Question(
            "Behind 24 plain layers without normalization they are unrelated too.",
            lambda table: _neighbours(table, "plain"),
            below=0.2,
            unit="correlation",
        ),
        Question(
            "Behind 4 normalized layers they are related still.",
            lambda table: table.of("neighbours", net="normalized", depth=4),
            above=0.5,
            unit="correlation",
            control=True,
        ),
    ),
    pictures=(
        Picture(
            "neighbours",
            "correlation between the gradients of neighbours",
            x="depth",
            x_title="layers",
            by="net",
            log_x=True,
            names={"net": NETS},
        ),
        Picture(
            "correlation",
            "correlation, behind 24 layers",
            x_title="distance, in points of 256",
            by="net",
            where={"depth": 24},
            names={"net": NETS},
        ),
    ),
    verdict="only under these conditions",
)
