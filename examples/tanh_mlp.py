"""Sound on purpose: ten layers of tanh that train well.

Deep and squashing like ``deep_sigmoid.py``, with two differences: tanh has slope one at zero, and Xavier's
initialization with its gain keeps signal and gradient at the same size from layer to layer. Whatever imbalance is left,
Adam evens out. A small gradient in front is no disease when every layer still learns.
"""

import torch
from torch import nn

import digits
from graddoctor import Recipe

DEPTH, WIDTH = 10, 64


def layer(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(linear.weight, gain=nn.init.calculate_gain("tanh"))
    nn.init.zeros_(linear.bias)
    return linear


def build() -> nn.Module:
    hidden = [module for _ in range(DEPTH - 1) for module in (layer(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), layer(64, WIDTH), nn.Tanh(), *hidden, nn.Linear(WIDTH, 10))


recipe = Recipe(
    model=build,
    loss=digits.loss,
    batches=digits.batches,
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    evaluate=digits.accuracy,
    epochs=15,
)
