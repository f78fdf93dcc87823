"""Small trainings that remedies are tried on."""

import torch
from torch import nn
from torch.nn import functional

from graddoctor.recipe import Recipe
from graddoctor.remedies.survey import survey
from graddoctor.train import build_model, train


def data(count=32, features=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def pairs(size=8):
    return list(zip(*(t.split(size) for t in data()), strict=True))


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def sgd(model, lr=0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def mlp(activation=nn.ReLU):
    return nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 2))


class Functional(nn.Module):
    """An MLP whose activation is a function, or a method of the tensor."""

    def __init__(self, activation=torch.relu):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)])
        self.activation = activation

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class Headed(nn.Module):
    """An MLP with something done to its output."""

    def __init__(self, end, units=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, units))
        self.end = end

    def forward(self, x):
        return self.end(self.body(x))


def recipe(**changes):
    parts = {"model": mlp, "loss": cross_entropy, "batches": pairs, "optimizer": sgd, "epochs": 2}
    return Recipe(**{**parts, **changes})


def outputs(given, x=None):
    """What a recipe's network gives for the same inputs, in training mode."""
    torch.manual_seed(0)
    return build_model(given)(data()[0] if x is None else x)


def surveyed(given):
    return survey(given, build_model(given))


def same_training(one, other):
    first, second = train(one), train(other)
    states = [outcome.model.state_dict() for outcome in (first, second)]
    return first.losses.tolist() == second.losses.tolist() and all(
        torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True)
    )
