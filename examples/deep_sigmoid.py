"""Sick on purpose: ten layers of sigmoids, the textbook case of a vanishing gradient.

The slope of a sigmoid is a quarter at most, and torch's default initialization shrinks the signal as well, so every
layer takes most of a decade off the gradient on its way back. The early layers never move, the late ones see the same
signal for every image, and the loss stays where guessing leaves it.
"""

import torch
from torch import nn

import digits
from graddoctor import Recipe

DEPTH, WIDTH = 10, 64


def build() -> nn.Module:
    hidden = [layer for _ in range(DEPTH - 1) for layer in (nn.Linear(WIDTH, WIDTH), nn.Sigmoid())]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.Sigmoid(), *hidden, nn.Linear(WIDTH, 10))


recipe = Recipe(
    model=build,
    loss=digits.loss,
    batches=digits.batches,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    evaluate=digits.accuracy,
    epochs=10,
)
