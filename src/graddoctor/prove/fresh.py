"""Fresh draws of a recipe: other weights and another order, under the same task.

A proof needs runs that really differ. The seed of the recipe is one thing that makes them so; where the user seeds
inside his own builder it does nothing, and then it is his seeds that are moved.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from graddoctor.prove.checksum import checksum, checksum_of
from graddoctor.prove.shift import shifted_seeds
from graddoctor.randomness import Generator, generators_of, kept_generators, seeded
from graddoctor.recipe import Recipe
from graddoctor.train import BatchSource, build_model, network_of

_STRIDE = 7919
"""Between the seeds of two numbers: a prime, so large that no ``seed + 1`` of one is the seed of another."""

_BATCHES = 4  # so many are looked at to see whether the order differs
_SEEDS = (1, 2)  # two that a builder which seeds itself does not tell apart


def fresh(recipe: Recipe, number: int) -> Recipe:
    """Return the recipe with other draws: the same for the same number, others for every other number.

    The recipe's seed is another one. Where the builder of the network seeds itself (two seeds of the run give the same
    weights), the seeds that it sets are moved while it runs. Of the batches only the generators that a loader and its
    samplers take the order from are moved on: seeds in the function that makes the data stay as they are, because
    another task would be made of it, and the data that `evaluate` holds would not follow.

    Parameters
    ----------
    number
        0: the recipe itself. From 1 on: a draw of its own.
    """
    if number == 0:
        return recipe
    shift = _STRIDE * number
    build, inside = recipe.model, shift if seeds_itself(recipe.model) else 0
    original = recipe.batches

    def model(seed: int = recipe.seed + shift) -> nn.Module:
        with shifted_seeds(inside, build) if inside else nullcontext():
            return network_of(build, seed)

    def batches() -> Iterable[Any]:
        source = original() if callable(original) else original
        for generator in order_generators(source):
            _move_on(generator, number)
        return source

    return recipe.with_(seed=recipe.seed + shift, model=model, batches=batches)


def redraws(recipe: Recipe) -> bool:
    """Whether two numbers really give different runs: other weights, or another order of the first batches."""
    one, other = fresh(recipe, 1), fresh(recipe, 2)
    return _weights(one) != _weights(other) or _order(one) != _order(other)


def seeds_itself(build: Callable[..., nn.Module]) -> bool:
    """Whether a builder of networks gives the same weights whatever the seed of the run."""
    try:
        return _seeds_itself(build)
    except TypeError:  # a callable that cannot be hashed
        return _seeds_itself.__wrapped__(build)


@functools.lru_cache(maxsize=4)  # asked for at every trial
def _seeds_itself(build: Callable[..., nn.Module]) -> bool:
    drawn = []
    for seed in _SEEDS:
        with seeded(seed), kept_generators(generators_of(build)):
            drawn.append(checksum(network_of(build, seed).parameters()))
    return drawn[0] == drawn[1]


def order_generators(source: Any) -> list[Generator]:
    """Find the generators that what gives the batches takes their order from.

    Those of a loader, of its samplers, and of an iterable of the user's own; none that a data set draws from, and none
    of a generator function, which may make the data itself.
    """
    if isinstance(source, (list, tuple, Iterator)):
        return []
    held = list(getattr(source, "__dict__", {}).values())
    loaders = [thing for thing in (source, *held) if isinstance(thing, DataLoader)]
    its_own = [loader.generator for loader in loaders if loader.generator is not None]
    data = {id(generator) for generator in generators_of(*(loader.dataset for loader in loaders))}
    found = [*its_own, *(g for g in generators_of(source, *held) if id(g) not in data)]
    return list({id(generator): generator for generator in found}.values())


def _move_on(generator: Generator, number: int) -> None:
    """Put a generator into a state that follows from the one it is in and from the number."""
    drawn = hashlib.sha256(f"{_draw(generator)} {number}".encode()).digest()
    seed = int.from_bytes(drawn[:4], "big")
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    else:
        generator.seed(seed)


def _draw(generator: Generator) -> list[int]:
    if isinstance(generator, torch.Generator):
        drawn: list[int] = torch.randint(2**31, (4,), generator=generator, device=generator.device).tolist()
        return drawn
    if isinstance(generator, random.Random):
        return [generator.getrandbits(31) for _ in range(4)]
    draw = generator.integers if isinstance(generator, np.random.Generator) else generator.randint
    return [int(value) for value in draw(2**31 - 1, size=4)]


def _weights(recipe: Recipe) -> str:
    return checksum(build_model(recipe).parameters())


def _order(recipe: Recipe) -> list[str]:
    return [checksum_of(batch) for batch in BatchSource(recipe).first(_BATCHES)]
