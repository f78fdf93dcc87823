"""A small training, and what looks on while it runs."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from graddoctor.recipe import Recipe
from graddoctor.train import Observer


def data(count=24):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 4, generator=generator)
    return x, (x.sum(1) > 0).long()


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def pairs(size=4):
    return list(zip(*(t.split(size) for t in data()), strict=True))


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def recipe(**changes):
    return Recipe(**{"model": net, "loss": loss, "batches": pairs, "optimizer": sgd, "epochs": 2, **changes})


def state(outcome):
    return torch.cat([value.flatten().double() for value in outcome.model.state_dict().values()])


def shuffled():
    return DataLoader(TensorDataset(*data()), batch_size=4, shuffle=True)


def generated():
    generator = torch.Generator().manual_seed(5)
    for _ in range(6):
        x = torch.randn(4, 4, generator=generator) + 0.1 * torch.randn(4, 4)
        yield x, (x.sum(1) > 0).long()


def drawn_when_asked():
    x = torch.randn(24, 4) + torch.tensor(np.random.rand(24, 4), dtype=torch.float32)  # noqa: NPY002
    return [(x[i : i + 4], torch.tensor([random.randrange(2) for _ in range(4)])) for i in range(0, 24, 4)]  # noqa: S311


class Looker(Observer):
    def __init__(self):
        self.calls = []
        self.lengths = []
        self.rates = []

    def built(self, model, optimizer, steps):
        self.calls.append(("built", steps))
        torch.rand(5)  # an observer may draw before the run begins

    def before_step(self, step, model, batch):
        self.calls.append(("before_step", step))

    def after_backward(self, step, model, optimizer):
        assert all(p.grad is not None for p in model.parameters())
        self.calls.append(("after_backward", step))

    def before_update(self, step, model, optimizer):
        self.calls.append(("before_update", step))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def after_step(self, step, model, optimizer):
        self.calls.append(("after_step", step))

    def losses(self, first, values):
        assert first == sum(self.lengths)
        self.lengths.append(len(values))
