"""Random state: seeded for a run, and put back as it was when the run is over."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - users' loaders draw from the global generator
    torch.manual_seed(seed)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the global random state of Python, NumPy and torch back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def kept_generators(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Put the state of the given generators back afterwards."""
    states = [g.get_state() for g in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def generators_of(source: Any, depth: int = 4) -> list[torch.Generator]:
    """Find the generators that a loader, its samplers and its data set hold.

    A loader that is made once and iterated in every run would otherwise draw another order each time.
    """
    found: dict[int, torch.Generator] = {}

    def visit(thing: Any, left: int) -> None:
        if isinstance(thing, torch.Generator):
            found[id(thing)] = thing
        elif left and isinstance(thing, (DataLoader, Sampler, Dataset)):
            for value in list(vars(thing).values()):
                visit(value, left - 1)

    visit(source, depth)
    return list(found.values())
