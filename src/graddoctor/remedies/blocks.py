"""Repeated blocks: the equal parts, one after the other, that make a network deep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn

from graddoctor.nested import leaves
from graddoctor.recipe import Recipe
from graddoctor.remedies.survey import Reader, read_forward

_MATRIX = 2
_FEWEST = 2  # siblings that make a run


@dataclass(frozen=True)
class Block:
    """One of several equal parts in a row; a network still fits together without it.

    Attributes
    ----------
    modules
        What it is made of, the one with the weights first: in an ``nn.Sequential`` also the activation and the
        normalization that stand before the next one.
    shape
        Of the tensor that it is given, and gives.
    """

    modules: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The module with the weights."""
        return self.modules[0]


@dataclass(frozen=True)
class _Called:
    """One module as a forward pass called it."""

    module: nn.Module
    given: tuple[int, ...]
    made: tuple[int, ...]
    calls: int

    @property
    def same(self) -> bool:
        """Whether it could be left out: called once, with one tensor out, of the shape of the first one in."""
        return self.calls == 1 and bool(self.made) and self.given == self.made


def blocks_of(recipe: Recipe, model: nn.Module, batch: Any = None) -> tuple[tuple[Block, ...], ...]:
    """Find the runs of equal blocks that one forward pass goes through, outermost modules first.

    Equal are siblings of one class that are given, and give, a tensor of one shape, are called once each and hold a
    weight matrix. The model and random state stay as they were.

    Parameters
    ----------
    model
        A network of the recipe, in training mode.
    batch
        The recipe's first batch if not given.
    """
    called: dict[str, _Called] = {}
    handles = [
        module.register_forward_hook(_Note(called, name), with_kwargs=True) for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            read_forward(recipe, model, Reader(model), batch)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(_runs(model, "", called))


class _Note:
    """A forward hook that notes what a module was given and made."""

    def __init__(self, called: dict[str, _Called], name: str) -> None:
        self.called, self.name = called, name

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = next((tuple(t.shape) for _, t in leaves((args, kwargs)) if t.is_floating_point()), ())
        made = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
        before = self.called.get(self.name)
        self.called[self.name] = _Called(module, given, made, 1 + (before.calls if before else 0))


def _runs(parent: nn.Module, path: str, called: dict[str, _Called]) -> Iterator[tuple[Block, ...]]:
    """The runs among the children of a module, then those inside of children that are in none."""
    children = {f"{path}.{short}" if path else short: child for short, child in parent.named_children()}
    inside: set[str] = set()
    for _, group in groupby(filter(called.__contains__, _heavy(children, called)), key=lambda n: _kind(called[n])):
        names = list(group)
        if len(names) >= _FEWEST:
            inside.update(names)
            yield tuple(_block(name, parent, children, called) for name in names)
    for name, child in children.items():
        if name not in inside:
            yield from _runs(child, name, called)


def _heavy(children: dict[str, nn.Module], called: dict[str, _Called]) -> list[str]:
    """Children that could be left out and would be missed: they hold a weight matrix that is trained."""
    return [
        name
        for name, child in children.items()
        if name in called
        and called[name].same
        and any(p.ndim >= _MATRIX and p.requires_grad for p in child.parameters())
    ]


def _kind(called: _Called) -> tuple[type, tuple[int, ...]]:
    return type(called.module), called.given


def _block(name: str, parent: nn.Module, children: dict[str, nn.Module], called: dict[str, _Called]) -> Block:
    """A child with weights, and in a sequence what follows it up to the next weights."""
    modules = [name]
    if isinstance(parent, nn.Sequential):
        order = list(children)
        for following in order[order.index(name) + 1 :]:
            one = called.get(following)
            if one is None or not one.same or any(p.ndim >= _MATRIX for p in children[following].parameters()):
                break
            modules.append(following)
    return Block(tuple(modules), called[name].given)
