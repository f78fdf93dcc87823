"""What the zoo learns from: small, deterministic tasks, real (digits) or generated, and the batches cut from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

Kind = Literal["classes", "binary", "real"]
Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Task:
    """Inputs (one or more) and the target, last, cut into a training and a validation part."""

    train: Tensors
    test: Tensors
    kind: Kind

    @property
    def inputs(self) -> torch.Tensor:
        """The first input of the training part."""
        return self.train[0]


def _split(kind: Kind, held_out: int, *columns: torch.Tensor) -> Task:
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(1))
    test, train = order[:held_out], order[held_out:]
    return Task(tuple(c[train] for c in columns), tuple(c[test] for c in columns), kind)


def _draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _digit_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Scikit-learn's digits (0 to 16, 1797 x 64); without scikit-learn, ten blurred templates of the same shape."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - only in the `examples` extra
    except ImportError:
        draw = torch.Generator().manual_seed(0)
        labels = torch.arange(1797) % 10
        templates = functional.interpolate(torch.rand(10, 1, 4, 4, generator=draw), size=(8, 8), mode="bilinear")
        noisy = templates.reshape(10, 64)[labels] + 0.15 * torch.randn(1797, 64, generator=draw)
        return (16 * noisy).clamp(0, 16), labels
    digits = load_digits()
    return torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target, dtype=torch.int64)


@lru_cache(maxsize=4)
def digits(*, standardised: bool = True) -> Task:
    """8x8 digits, 10 classes, as 64 numbers: centred and scaled as a whole, or pixels from 0 to 255."""
    pixels, labels = _digit_images()
    scaled = (pixels - pixels.mean()) / pixels.std() if standardised else pixels * (255 / 16)
    return _split("classes", 397, scaled, labels)


@lru_cache(maxsize=4)
def circles(noise: float = 0.08) -> Task:
    """Two rings in the plane, label 0 or 1: nothing linear tells them apart."""
    angle = 2 * math.pi * torch.rand(1200, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(1200) % 2
    radius = 0.6 + 0.8 * labels
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1) + noise * _draw(1200, 2, seed=4)
    return _split("classes", 400, points, labels)


@lru_cache(maxsize=4)
def moons(noise: float = 0.12, *, binary: bool = False) -> Task:
    """Two interleaved half circles; ``binary`` gives float labels of shape ``(n, 1)`` for a single logit."""
    angle = math.pi * torch.rand(1200, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(1200) % 2
    sign = 1 - 2 * labels
    points = torch.stack([angle.cos() * sign + labels, angle.sin() * sign + 0.5 * labels], dim=1)
    points = points + noise * _draw(1200, 2, seed=6)
    points = (points - points.mean(0)) / points.std(0)
    if binary:
        return _split("binary", 400, points, labels[:, None].float())
    return _split("classes", 400, points, labels)


@lru_cache(maxsize=8)
def blobs(classes: int = 6, dims: int = 16, spread: float = 1.4, *, rare: bool = False) -> Task:
    """Gaussian clouds; with ``rare`` the first class holds 85 % of the samples."""
    count = 1600
    labels = torch.arange(count) % classes
    if rare:
        labels = torch.where(torch.arange(count) % 100 < 85, torch.zeros_like(labels), labels)
    centres = 1.3 * _draw(classes, dims, seed=7)
    points = centres[labels] + spread * _draw(count, dims, seed=8)
    return _split("classes", 400, points / points.std(), labels)


@lru_cache(maxsize=8)
def noisy_blobs(wrong: float = 0.3) -> Task:
    """Blobs of which a share of the *training* labels is drawn anew."""
    clean = blobs()
    points, labels = clean.train
    draw = torch.Generator().manual_seed(9)
    flip = torch.rand(len(labels), generator=draw) < wrong
    noisy = torch.where(flip, torch.randint(0, 6, labels.shape, generator=draw), labels)
    return Task((points, noisy), clean.test, "classes")


@lru_cache(maxsize=8)
def teacher(noise: float = 0.1, outputs: int = 1) -> Task:
    """Regression on a random two-layer tanh network of 12 inputs; targets of mean 0 and spread 1, then noise."""
    points = _draw(1600, 12, seed=10)
    hidden = torch.tanh(points @ _draw(12, 16, seed=11) / math.sqrt(6))
    targets = hidden @ _draw(16, outputs, seed=12)
    targets = (targets - targets.mean(0)) / targets.std(0)
    return _split("real", 400, points, targets + noise * _draw(1600, outputs, seed=13))


@lru_cache(maxsize=2)
def tabular() -> Task:
    """Ten columns of mixed shapes (normal, uniform, skewed, binary), each of spread 1; a non-linear real target."""
    rng = np.random.default_rng(14)
    count = 1600
    columns = np.stack(
        [
            *(rng.normal(size=count) for _ in range(4)),
            *(rng.uniform(-1.7, 1.7, size=count) for _ in range(3)),
            rng.gamma(2.0, size=count) - 2.0,
            *(rng.choice([-1.0, 1.0], size=count) for _ in range(2)),
        ],
        axis=1,
    )
    target = columns[:, 0] * columns[:, 8] + np.sin(2 * columns[:, 1]) + columns[:, 4] ** 2 + 0.5 * columns[:, 7]
    target = (target - target.mean()) / target.std() + 0.1 * rng.normal(size=count)
    return _split(
        "real", 400, torch.tensor(columns, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)[:, None]
    )


@lru_cache(maxsize=2)
def pairs() -> Task:
    """Two inputs of eight numbers; the class says whether a hidden view of one agrees in sign with one of the other."""
    left, right = _draw(1600, 8, seed=15), _draw(1600, 8, seed=16)
    agree = (left[:, 0] + 0.5 * left[:, 1]) * (right[:, 0] - 0.5 * right[:, 2]) > 0
    return _split("classes", 400, left, right, agree.long())


@lru_cache(maxsize=4)
def recall(length: int = 10, words: int = 8) -> Task:
    """Sequences of words with one marker (the last word of the alphabet): the class is the word after the marker."""
    draw = torch.Generator().manual_seed(17)
    count = 1600
    tokens = torch.randint(0, words, (count, length), generator=draw)
    place = torch.randint(0, length - 1, (count,), generator=draw)
    rows = torch.arange(count)
    tokens[rows, place] = words
    return _split("classes", 400, tokens, tokens[rows, place + 1])


@dataclass(frozen=True)
class _Epochs:
    """An iterable that cuts a task into batches, in a new order each time it is iterated."""

    columns: Tensors
    size: int
    order: torch.Generator | None

    def __len__(self) -> int:
        return len(self.columns[0]) // self.size

    def __iter__(self) -> Iterator[Tensors]:
        count = len(self.columns[0])
        rows = torch.arange(count) if self.order is None else torch.randperm(count, generator=self.order)
        for start in range(0, len(self) * self.size, self.size):
            yield tuple(column[rows[start : start + self.size]] for column in self.columns)


def batches_of(columns: Tensors, size: int, seed: int | None) -> _Epochs:
    """Batches of equal size (the rest is dropped), shuffled by ``seed`` or, without one, in the order of the rows."""
    return _Epochs(columns, size, None if seed is None else torch.Generator().manual_seed(seed))
