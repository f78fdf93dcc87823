"""Remedies that are made up, so that it is known what they are good for: all are plain edits."""

import time

import torch
from torch import nn

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


def redraw(model, *, seed):
    """Draw the same network anew."""
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed() + seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    return model


def leave(model):
    return model


def raising(model):
    raise ValueError("this network\nwill not have it")


def too_large(model):
    raise MemoryError("no room for it")


def leaving(model):
    raise SystemExit(3)


def hang(model):
    while True:
        time.sleep(0.01)


def made(name, function, cause=Cause.ACTIVATION, **arguments):
    return Remedy.written(name, (cause,), [Edit("model", function, arguments)])


def prescriber(*remedies):
    def prescribed(facts):
        return remedies

    return prescribed


def placebo(seed=1, cause=Cause.ACTIVATION):
    return made(f"placebo {seed}", redraw, cause, seed=seed)


def faster(factor, cause=Cause.LEARNING_RATE):
    return Remedy.written(f"made-up rate x {factor:g}", (cause,), learning_rate(factor).edits)
