"""Small recipes for treatments: a sound one, sick ones, and one that nothing can help."""

import torch
from torch import nn

import graddoctor as gd

SIZE, BATCH, WIDTH = 96, 16, 8


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(inputs, targets):
    return [(inputs[k : k + BATCH], targets[k : k + BATCH]) for k in range(0, len(inputs), BATCH)]


def inputs():
    return drawn(SIZE, WIDTH)


def targets():
    return (inputs() @ drawn(WIDTH, 1, seed=1)).tanh()


def batches():
    return pairs(inputs(), targets())


def squared(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)


def short_steps(model):
    return torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.5)


def mlp():
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, 1))


def deep_sigmoid():
    layers = [nn.Linear(WIDTH, 16), nn.Sigmoid()]
    for _ in range(7):
        layers += [nn.Linear(16, 16), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(16, 1))


def loud():
    return pairs(300 * inputs() + 900, targets())


def accuracy(model):
    """Share of held-out samples whose sign is right."""
    held_out = drawn(200, WIDTH, seed=7)
    wanted = held_out @ drawn(WIDTH, 1, seed=1) > 0
    return ((model(held_out) > 0) == wanted).float().mean()


class Noise:
    """Targets that nothing can be learned from: drawn anew at every pass."""

    def __iter__(self):
        for _ in range(SIZE // BATCH):
            yield torch.randn(BATCH, WIDTH), torch.randn(BATCH, 1)

    def __len__(self):
        return SIZE // BATCH


def recipe(**changes):
    parts = {"model": mlp, "loss": squared, "batches": batches, "optimizer": sgd, "epochs": 20, "name": "small"}
    return gd.Recipe(**{**parts, **changes})


def sound(**changes):
    return recipe(**changes)


def slow(**changes):
    """Steps that are far too short: a rate is all it needs."""
    return recipe(**{"optimizer": short_steps, **changes})


def saturated(**changes):
    """Eight sigmoids in a row."""
    return recipe(**{"model": deep_sigmoid, **changes})


def unscaled(**changes):
    """Inputs far from zero, and far apart."""
    return recipe(**{"batches": loud, **changes})


def hopeless(**changes):
    return recipe(**{"batches": Noise, "optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.01), **changes})


SICK = {"slow": slow, "saturated": saturated, "unscaled": unscaled}


def tiny_start(**changes):
    """Weights so small that nothing gets through."""

    def model():
        net = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        for parameter in net.parameters():
            parameter.data.mul_(1e-3)
        return net

    return recipe(**{"model": model, **changes})


def swallowed(**changes):
    return recipe(**{"clip": lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1e-5), **changes})


def decayed(**changes):
    return recipe(**{"optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.2, weight_decay=1.0), **changes})


def relu_output(**changes):
    def model():
        return nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, 1), nn.ReLU())

    return recipe(**{"model": model, **changes})
