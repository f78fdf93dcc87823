"""What most experiments learn from: 1,797 handwritten digits, 8 x 8 pixels, that ship with scikit-learn."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import graddoctor as gd
from graddoctor.errors import MissingExtraError

CLASSES, PIXELS = 10, 64
_HELD_OUT = 397


@functools.cache
def _images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised images of shape (n, 64) and labels: 1,400 to train with, 397 to test with."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "examples") from error
    pixels, labels = load_digits(return_X_y=True)
    images, targets = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:_HELD_OUT], order[_HELD_OUT:]
    return images[train], targets[train], images[test], targets[test]


class Shuffled:
    """Batches of shape (size, *shape) in a new order every epoch."""

    def __init__(self, size: int, shape: tuple[int, ...] = (PIXELS,)) -> None:
        self.size, self.shape = size, shape

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels, *_ = _images()
        for places in torch.split(torch.randperm(len(images)), self.size):
            yield images[places].reshape(-1, *self.shape), labels[places]

    def __len__(self) -> int:
        return math.ceil(len(_images()[0]) / self.size)


def batch(size: int = 128, shape: tuple[int, ...] = (PIXELS,)) -> tuple[Tensor, Tensor]:
    """Draw one batch, for a look."""
    return next(iter(Shuffled(size, shape)))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy."""
    return cross_entropy(model(batch[0]), batch[1])


def budget(model: nn.Module, drawn: tuple[Tensor, Tensor]) -> gd.Budget:
    """Look at the gradient of a network on a batch."""
    found = gd.probe(model, loss, [drawn]).budget
    assert found is not None  # noqa: S101 - a network with weights has a gradient
    return found


def recipe(
    model: Callable[[], nn.Module], *, seed: int, rate: float, shape: tuple[int, ...] = (PIXELS,), **parts: Any
) -> gd.Recipe:
    """Make a recipe that learns the digits: SGD with momentum 0.9, batches of 128, test accuracy; `parts` change it."""
    _images()  # a missing extra is told before anything is trained

    def accuracy(trained: nn.Module) -> float:
        *_, images, labels = _images()
        return float((trained(images.reshape(-1, *shape)).argmax(dim=1) == labels).float().mean())

    size = parts.pop("batch_size", 128)
    given = {
        "optimizer": lambda network: torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9),
        "batches": lambda: Shuffled(size, shape),
        "evaluate": accuracy,
        "epochs": 10,
    }
    return gd.Recipe(model=model, loss=loss, seed=seed, **{**given, **parts})
