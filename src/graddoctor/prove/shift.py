"""Seeds that a user sets in his own code, moved by a number while it runs."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from graddoctor.tracebacks import is_users

_MODULUS = 2**32  # NumPy takes no seed above, and torch uses no more bits of one


@contextmanager
def shifted_seeds(by: int, code: Callable[..., Any] | None = None) -> Iterator[None]:
    """Add a number to every seed that is set meanwhile: of the global generators, and of new ones.

    ``torch.manual_seed`` and ``torch.Generator().manual_seed``, ``np.random.seed``, ``default_rng`` and
    ``RandomState``, ``random.seed`` and ``random.Random`` are replaced where they live and where the user's own modules
    have imported them by name; all are put back. Not for several threads at once.

    Parameters
    ----------
    by
        What is added, modulo 2**32. A generator that is made without a seed stays without.
    code
        A function whose module counts as the user's, wherever it lies.
    """
    moved = _stand_ins(by)
    replaced = []
    for names in _namespaces((original for original, _ in moved.values()), code):
        for name, value in list(names.items()):
            original, new = moved.get(id(value), (None, None))
            if original is not None and value is original:
                replaced.append((names, name, original))
                names[name] = new
    try:
        yield
    finally:
        for names, name, original in replaced:
            names[name] = original


def _namespaces(originals: Iterable[Any], code: Callable[..., Any] | None) -> list[dict[str, Any]]:
    """Names of the libraries that hold generators, and of the user's modules that have imported one of them.

    Functions that have travelled to another process have globals that no module holds: the collector knows them.
    """
    spaces = [vars(module) for module in (torch, torch.random, torch.cuda, np.random, random)]
    here = getattr(code, "__globals__", None)
    for space in gc.get_referrers(*originals):
        if isinstance(space, dict) and "__builtins__" in space:
            file = space.get("__file__")
            if space is here or not isinstance(file, str) or is_users(file):  # a notebook has no file
                spaces.append(space)
    return list({id(space): space for space in spaces}.values())


def _stand_ins(by: int) -> dict[int, tuple[Any, Any]]:
    """What replaces each original, by its identity."""
    seeding = (torch.manual_seed, torch.random.manual_seed)  # two, once torch._dynamo has wrapped the first
    functions = (*seeding, torch.cuda.manual_seed, torch.cuda.manual_seed_all, np.random.seed, np.random.default_rng)
    pairs: list[tuple[Any, Any]] = [(function, _moved_call(function, by)) for function in (*functions, random.seed)]
    pairs += [(kind, _moved_class(kind, by)) for kind in (np.random.RandomState, random.Random)]
    pairs.append((torch.Generator, _moved_generator(by)))
    return {id(original): (original, new) for original, new in pairs}


def _moved_call(function: Callable[..., Any], by: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return function(*_moved_first(arguments, by), **_moved_named(options, by))

    return call


def _moved_class(kind: type, by: int) -> type:
    """A class that makes instances of `kind` with a moved seed, and knows those made elsewhere as its own."""

    class Meta(type):
        def __call__(cls, *arguments: Any, **options: Any) -> Any:
            return kind(*_moved_first(arguments, by), **_moved_named(options, by))

        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, kind)

    return Meta(kind.__name__, (kind,), {})


def _moved_generator(by: int) -> type:
    """A `torch.Generator` whose ``manual_seed`` is moved."""
    kind = torch.Generator

    class Meta(type(kind)):  # type: ignore[misc]
        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, kind)

    def manual_seed(self: torch.Generator, seed: int) -> torch.Generator:
        kind.manual_seed(self, int(_moved(seed, by)))
        return self

    return Meta("Generator", (kind,), {"manual_seed": manual_seed})


def _moved_first(arguments: tuple[Any, ...], by: int) -> tuple[Any, ...]:
    return (_moved(arguments[0], by), *arguments[1:]) if arguments else ()


def _moved_named(options: dict[str, Any], by: int) -> dict[str, Any]:
    return {name: _moved(value, by) if name in {"seed", "a", "x"} else value for name, value in options.items()}


def _moved(seed: Any, by: int) -> Any:
    """A seed, moved; what is none (``None``, another generator) is handed on."""
    if isinstance(seed, (int, np.integer)):
        return (int(seed) + by) % _MODULUS
    if isinstance(seed, torch.Tensor) and seed.numel() == 1:
        return (int(seed) + by) % _MODULUS
    if isinstance(seed, (list, tuple, np.ndarray)):
        return [*(int(value) for value in seed), by % _MODULUS]
    return f"{seed} {by}" if isinstance(seed, str) else seed
