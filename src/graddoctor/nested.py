"""Tensors in whatever a batch or an output is made of: tuples, lists, mappings, named tuples and dataclasses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

Path = tuple[Any, ...]


def mapped(function: Callable[[torch.Tensor], Any], thing: Any) -> Any:
    """Apply a function to every tensor; containers are copied and keep their type, all else is handed on.

    Parameters
    ----------
    function
        Given each tensor, of any shape.
    thing
        A tensor, or tensors in tuples, lists, mappings, named tuples and dataclasses, as deep as need be.
    """
    return mapped_with_path(lambda _, tensor: function(tensor), thing)


def mapped_with_path(function: Callable[[Path, torch.Tensor], Any], thing: Any, path: Path = ()) -> Any:
    """Like `mapped`, with a function that is also given the way to each tensor, as `leaves` has it."""
    if isinstance(thing, torch.Tensor):
        return function(path, thing)
    parts = _parts(thing)
    if parts is None:
        return thing
    new = {key: mapped_with_path(function, part, (*path, key)) for key, part in parts.items()}
    if isinstance(thing, (tuple, list)):
        return type(thing)(*new.values()) if hasattr(thing, "_fields") else type(thing)(new.values())
    twin = copy.copy(thing)
    for key, part in new.items():
        if isinstance(twin, MutableMapping):
            twin[key] = part
        else:
            object.__setattr__(twin, key, part)  # frozen dataclasses too
    return twin


def leaves(thing: Any, path: Path = ()) -> list[tuple[Path, torch.Tensor]]:
    """Return the tensors in nested containers, each with the indices, keys and field names that lead to it."""
    if isinstance(thing, torch.Tensor):
        return [(path, thing)]
    return [leaf for key, part in (_parts(thing) or {}).items() for leaf in leaves(part, (*path, key))]


def _parts(thing: Any) -> dict[Any, Any] | None:
    """What a container holds, by index, key or name; ``None`` where it is none."""
    if isinstance(thing, (tuple, list)):
        return dict(enumerate(thing))
    if isinstance(thing, MutableMapping):
        return dict(thing)
    if isinstance(thing, (Mapping, type)) or not is_dataclass(thing):
        return None
    return {field.name: getattr(thing, field.name) for field in fields(thing) if hasattr(thing, field.name)}
