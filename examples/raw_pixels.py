"""Sick on purpose: bytes from 0 to 255 straight from the file, where a network expects numbers around zero.

The first layer answers with numbers up to 240. Its gradient is as much too large as its inputs are, the first steps at
an ordinary rate throw the weights away, and after one epoch every unit is dead. A hundredth of the rate trains as well,
though not as far. What cures it is to standardise inside the network, so that whoever uses it later hands over bytes.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import digits
from graddoctor import Recipe

images = digits.images.mul(255).round()


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def batches() -> DataLoader:
    data = TensorDataset(images[digits.TRAIN], digits.labels[digits.TRAIN])
    return DataLoader(data, batch_size=64, shuffle=True)


def accuracy(model: nn.Module) -> float:
    device = next(model.parameters()).device
    right = model(images[digits.TEST].to(device)).argmax(dim=1).cpu() == digits.labels[digits.TEST]
    return right.float().mean().item()


recipe = Recipe(
    model=build,
    loss=digits.loss,
    batches=batches,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    evaluate=accuracy,
    epochs=8,
)
