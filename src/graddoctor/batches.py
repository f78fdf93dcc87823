"""Where the batches of a run come from: asked for once, the same for everybody who looks at the first of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from graddoctor.errors import RecipeError
from graddoctor.nested import mapped
from graddoctor.randomness import Generator, generators_of, kept_generators, seeded, snapshot
from graddoctor.recipe import Recipe

_COUNT_LIMIT = 200_000


def place(batch: Any, device: str | torch.device) -> Any:
    """Move every tensor of a batch to the device; tuples, lists, mappings and dataclasses keep their type."""
    return mapped(lambda tensor: tensor.to(device, non_blocking=True), batch)


class BatchSource:
    """Batches of one run: asked for once, iterated anew each epoch, asked for again where used up.

    Parameters
    ----------
    recipe
        Whose ``batches`` are asked for, under its seed.

    Raises
    ------
    RecipeError
        There is nothing to iterate, or something that is used up after one pass and cannot be asked for again.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._put_back = snapshot(generators_of(recipe.batches))
        self._source = self._ask()

    def _ask(self) -> Iterable[Any]:
        batches = self._recipe.batches
        with seeded(self._recipe.seed):
            source = batches() if callable(batches) else batches
        if not isinstance(source, Iterable):
            msg = f"batches must give an iterable of batches; it gave {type(source).__name__}"
            raise RecipeError(msg)
        if isinstance(source, Iterator) and not callable(batches):
            msg = (
                f"batches is a {type(source).__name__} object that is used up after one pass: "
                "give a function that makes it, as in  batches=lambda: make_batches()"
            )
            raise RecipeError(msg)
        return source

    def _ask_again(self) -> None:
        """Get what is used up a second time.

        Raises
        ------
        RecipeError
            It is the same object, used up as it is.
        """
        if not isinstance(self._source, Iterator):
            return
        used_up, self._source = self._source, self._ask()
        if self._source is used_up:
            msg = (
                f"batches returned the same {type(used_up).__name__} object twice, which is used up after one pass: "
                "make a new one at every call, or return a list or a DataLoader"
            )
            raise RecipeError(msg)

    def generators(self) -> list[Generator]:
        """Random generators that the loader draws its order from."""
        return generators_of(self._source, self._recipe.batches)

    def epoch(self, number: int) -> Iterator[Any]:
        """Batches of one epoch, on the recipe's device."""
        if number:
            self._ask_again()
        return (place(batch, self._recipe.device) for batch in self._source)

    def count(self, limit: int = _COUNT_LIMIT) -> int:
        """Batches in an epoch; counted by iterating, up to `limit`, where the source has no length."""
        try:
            return len(self._source)  # type: ignore[arg-type]
        except TypeError:
            pass
        with seeded(self._recipe.seed + 1), kept_generators(self.generators()):
            number = sum(1 for _ in itertools.islice(iter(self._source), limit))
        if number:
            self._ask_again()
        return number

    def first(self, number: int) -> list[Any]:
        """Up to `number` batches, the very ones that a run begins with; leaves all random state as it was."""
        with seeded(self._recipe.seed + 1), kept_generators(self.generators()):
            batches = list(itertools.islice(self.epoch(0), number))
        self._ask_again()
        self._put_back()
        return batches
