"""Random state: seeded for a run, and put back as it was when the run is over."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random

_DEPTH = 6
_CLOSED = (type, nn.Module, torch.Tensor, np.ndarray)
_SHORT = 64  # lists that hold loaders or data sets are short; lists of samples are not
_LIBRARIES = frozenset({"torch", "numpy", "graddoctor", "transformers", "torchvision", "sklearn", "scipy"})


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy (modulo 2**32) and torch (all devices)."""
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
def seeded(seed: int) -> Iterator[None]:
    """Run a block from a seed, and put the global random state back afterwards."""
    with kept_random_state():
        seed_everything(seed)
        yield


@contextmanager
def kept_generators(generators: Sequence[Generator]) -> Iterator[None]:
    """Put the state of the given generators back afterwards."""
    put_back = snapshot(generators)
    try:
        yield
    finally:
        put_back()


def snapshot(generators: Sequence[Generator]) -> Callable[[], None]:
    """Return a function that puts the generators back into the state that they have now."""
    kept = [_keep(generator) for generator in generators]

    def put_back() -> None:
        for restore in kept:
            restore()

    return put_back


def _keep(generator: Generator) -> Callable[[], Any]:
    """Return what puts a generator back into the state that it has now."""
    if isinstance(generator, random.Random):
        return functools.partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return functools.partial(setattr, bits, "state", bits.state)
    if isinstance(generator, np.random.RandomState):
        return functools.partial(generator.set_state, generator.get_state())
    return functools.partial(generator.set_state, generator.get_state().clone())


def generators_of(*sources: Any) -> list[Generator]:
    """Find the random generators that loaders, samplers, data sets and users' functions hold.

    Whatever is made once and used in every run would otherwise draw other numbers each time. Looked into are the
    attributes of loaders, samplers and data sets, and what functions close over or name in their own file.
    """
    search = _Search()
    for source in sources:
        search.visit(source, _DEPTH)
    return search.found


class _Search:
    def __init__(self) -> None:
        self.found: list[Generator] = []
        self.seen: dict[int, Any] = {}  # holds what it has seen, so that no id is used again

    def visit(self, thing: Any, left: int) -> None:
        if id(thing) in self.seen or not left:
            return
        if isinstance(thing, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
            self.seen[id(thing)] = thing
            self.found.append(thing)
            return
        parts = _parts(thing)
        if parts:
            self.seen[id(thing)] = thing
        for part in parts:
            self.visit(part, left - 1)


def _parts(thing: Any) -> list[Any]:
    """What a thing may have its random numbers from."""
    if isinstance(thing, FunctionType):
        return _reach(thing)
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, GeneratorType):
        return list(thing.gi_frame.f_locals.values()) if thing.gi_frame else []
    if isinstance(thing, (list, tuple)):
        return list(thing) if len(thing) <= _SHORT else []
    made_for_it = isinstance(thing, (DataLoader, Sampler, Dataset)) or _own(type(thing))
    return list(getattr(thing, "__dict__", {}).values()) if made_for_it and not isinstance(thing, _CLOSED) else []


def _reach(function: FunctionType) -> list[Any]:
    """What a function closes over, its defaults, and the globals that it names if it is a user's."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    parts = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if _own(function):
        parts += [function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__]
    return parts


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asking raises where it is empty
    except ValueError:
        return False
    return True


def _own(thing: Any) -> bool:
    """Whether a class or function is the user's, and no library's."""
    root = str(getattr(thing, "__module__", "builtins")).partition(".")[0]
    return root not in _LIBRARIES and root != "builtins"
