"""Sick on purpose: ten plain convolutions with weights that are too small.

``std=0.02`` is a habit from generative networks and far too little here: He's rule asks for ``sqrt(2 / fan_in)``, 0.12
for 144 inputs. Without normalization nothing makes up for it, so each convolution passes on a sixth of what it gets, in
both directions, and after ten of them neither signal nor gradient is left. ``residual_cnn.py`` is the sound twin.
"""

import torch
from torch import nn

import digits
from graddoctor import Recipe

DEPTH, CHANNELS = 10, 16


def convolution(inputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, CHANNELS, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=0.02)
    nn.init.zeros_(conv.bias)
    return conv


def build() -> nn.Module:
    layers = [module for i in range(DEPTH) for module in (convolution(CHANNELS if i else 1), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * CHANNELS, 10))


recipe = Recipe(
    model=build,
    loss=digits.loss,
    batches=digits.batches,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    evaluate=digits.accuracy,
    epochs=12,
)
