"""Plain stacks of layers, which most experiments train."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from graddoctor.lab.digits import CLASSES, PIXELS

Start = Callable[[torch.Tensor], object]
"""Draws a matrix of weights anew, in place, as functions of `torch.nn.init` do."""


def stack(
    depth: int,
    activation: Callable[[], nn.Module],
    *,
    width: int = 64,
    start: Start | None = None,
    inputs: int = PIXELS,
    biases: bool = True,
) -> nn.Sequential:
    """`depth` layers of weights, an activation behind all but the last.

    They start as torch starts them, or as `start` draws them, with zero biases.
    """
    widths = [inputs, *[width] * (depth - 1), CLASSES]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        linear = nn.Linear(before, after, bias=biases)
        if start is not None:
            with torch.no_grad():
                start(linear.weight)
            if biases:
                nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])
