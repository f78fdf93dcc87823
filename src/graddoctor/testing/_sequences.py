"""Sequences for the zoo, ``(batch, time, features)``: an early, a late or every step decides the answer."""

from __future__ import annotations

from functools import lru_cache

import torch

from graddoctor.testing._data import Task, Tensors, digits
from graddoctor.testing._data import _draw as draw
from graddoctor.testing._data import _split as split

_COUNT = 2000


def _one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def _integers(high: int, *shape: int, seed: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


@lru_cache(maxsize=16)
def shown(length: int = 50, at: int = 0, classes: int = 4, noise: float = 0.3) -> Task:
    """One of a few patterns is shown at one step (negative: from the end); everything else is noise."""
    labels = _integers(classes, _COUNT, seed=20)
    steps = noise * draw(_COUNT, length, classes, seed=21)
    steps[:, at] += 2 * _one_hot(labels, classes)
    return split("classes", 400, steps, labels)


@lru_cache(maxsize=8)
def spelled(length: int = 40, words: int = 6) -> Task:
    """Tokens of which the first decides the class; the others are drawn from the rest of the alphabet."""
    labels = _integers(4, _COUNT, seed=22)
    tokens = 4 + _integers(words, _COUNT, length, seed=23)
    tokens[:, 0] = labels
    return split("classes", 400, tokens, labels)


@lru_cache(maxsize=8)
def order(length: int = 40) -> Task:
    """Two events, each of kind A or B, in the first and the second quarter: the class is which came before which."""
    first, second = _integers(2, _COUNT, seed=24), _integers(2, _COUNT, seed=25)
    steps = 0.1 * draw(_COUNT, length, 3, seed=26)
    rows = torch.arange(_COUNT)
    early = _integers(length // 4, _COUNT, seed=27)
    later = length // 4 + _integers(length // 4, _COUNT, seed=28)
    steps[rows, early, first] += 2
    steps[rows, later, second] += 2
    return split("classes", 400, steps, 2 * first + second)


@lru_cache(maxsize=8)
def adding(length: int = 30) -> Task:
    """Two of many numbers are marked, one in each half; the target is their sum, of mean 0 and spread 1."""
    numbers = torch.rand(_COUNT, length, generator=torch.Generator().manual_seed(29)) - 0.5
    marks = torch.zeros(_COUNT, length)
    rows, half = torch.arange(_COUNT), length // 2
    one, two = _integers(half, _COUNT, seed=30), half + _integers(half, _COUNT, seed=31)
    marks[rows, one] = marks[rows, two] = 1.0
    target = (numbers[rows, one] + numbers[rows, two])[:, None] * 6**0.5
    return split("real", 400, torch.stack([2 * numbers, marks], dim=2), target)


@lru_cache(maxsize=8)
def bits(length: int = 30, count: int = 2) -> Task:
    """A few bits, spread evenly from the first step on, between silent steps; the class is their parity."""
    values = _integers(2, _COUNT, count, seed=32)
    steps = torch.zeros(_COUNT, length, 2)
    for index in range(count):
        steps[:, index * length // count] = torch.stack([2.0 * values[:, index] - 1, torch.ones(_COUNT)], dim=1)
    steps += 0.05 * draw(_COUNT, length, 2, seed=33)
    return split("classes", 400, steps, values.sum(1) % 2)


@lru_cache(maxsize=8)
def recent(length: int = 50, lag: int = 3) -> Task:
    """Noise; the class is the sign of a sum over the last few steps."""
    steps = draw(_COUNT, length, 4, seed=34)
    total = steps[:, -lag:, 0].sum(1) - steps[:, -lag:, 1].sum(1)
    return split("classes", 400, steps, (total > 0).long())


@lru_cache(maxsize=8)
def average(length: int = 50) -> Task:
    """Noise around a level; the target is the mean of the first channel over all steps, of mean 0 and spread 1."""
    level = draw(_COUNT, 1, 1, seed=35)
    steps = 0.5 * draw(_COUNT, length, 2, seed=36)
    steps[:, :, :1] += level
    target = steps[:, :, 0].mean(1, keepdim=True)
    return split("real", 400, steps, (target - target.mean()) / target.std())


@lru_cache(maxsize=8)
def waves(length: int = 50, classes: int = 4) -> Task:
    """Noisy sine waves of a few frequencies and any phase; the class is the frequency."""
    labels = _integers(classes, _COUNT, seed=37)
    rate = 0.25 + 0.25 * labels[:, None]
    phase = 6.28 * torch.rand(_COUNT, 1, generator=torch.Generator().manual_seed(38))
    wave = torch.sin(rate * torch.arange(length) + phase) + 0.2 * draw(_COUNT, length, seed=39)
    return split("classes", 400, wave[:, :, None], labels)


@lru_cache(maxsize=4)
def rows() -> Task:
    """The digits, one row of eight pixels a step."""
    task = digits()
    return Task(
        (task.train[0].reshape(-1, 8, 8), task.train[1]), (task.test[0].reshape(-1, 8, 8), task.test[1]), "classes"
    )


@lru_cache(maxsize=4)
def ragged(length: int = 40) -> Task:
    """Sequences of 25 steps up to ``length``, padded with zeros, and their lengths; the first step decides."""
    task = shown(length)

    def cut(columns: Tensors, seed: int) -> Tensors:
        steps, labels = columns
        lengths = 25 + _integers(length - 24, len(steps), seed=seed)
        inside = torch.arange(length) < lengths[:, None]
        return steps * inside[:, :, None], lengths, labels

    return Task(cut(task.train, 40), cut(task.test, 41), "classes")
