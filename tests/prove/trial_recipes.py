"""Recipes for trials that travel: sound ones, and ones that hang, die and print under one of their seeds."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import train_recipes
from graddoctor.prove.task import Setting, Task
from graddoctor.prove.yardstick import Yardstick
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

ONE = Yardstick(0.69, computed=True)
BAD = 2  # the number of the fresh draw under which something happens


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 2))


def self_seeded():
    torch.manual_seed(3)
    return train_recipes.net()


def accuracy(model):
    x, y = train_recipes.data(200)
    return (model(x).argmax(1) == y).float().mean()


def from_numpy():
    x, y = (column.numpy() for column in train_recipes.data(24))
    return [tuple(torch.from_numpy(part) for part in rows) for rows in zip(np.split(x, 6), np.split(y, 6), strict=True)]


def recipe(**changes):
    parts = {"model": build, "batches": train_recipes.shuffled, "evaluate": accuracy}
    return train_recipes.recipe(**{**parts, **changes})


def setting(given=None, **changes):
    return Setting(given or recipe(), ONE, **changes)


def happens(what):
    """A builder that does something under the number `BAD`, and is a sound one otherwise."""
    return all_of({BAD: what})


def all_of(events):
    """A builder that does what is listed under some numbers, and is a sound one otherwise."""

    def model(seed=0):
        events.get(seed / 7919, bool)()
        return build(seed)

    return model


def sleep_on():
    while True:
        with suppress(Exception):
            time.sleep(0.05)


def sleep_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(1000)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def raising():
    raise ValueError("this seed\nis unlucky")


def loaded_by_others():
    return DataLoader(
        TensorDataset(*train_recipes.data()), batch_size=4, shuffle=True, num_workers=1, multiprocessing_context="fork"
    )


def doubled(recipe):
    return recipe.with_(epochs=2 * recipe.epochs)


DOUBLED = Remedy("twice as long", (Cause.SCHEDULE,), doubled)
TASKS = [
    Task(None),
    Task(None, 1),
    Task(None, BAD),
    Task(learning_rate(3.0), 1),
    Task(learning_rate(3.0), 1, 7),
    Task(None, 0, 5),
    Task(DOUBLED, 3),
    Task(None, sweep=True),
]
NUMBERS = [Task(None, number) for number in range(BAD + 2)]


def plain(result):
    return replace(result, seconds=0.0)


def run(pool, tasks):
    with pool:
        futures = [pool.submit(task) for task in tasks]
        return [future.result(120) for future in futures]
