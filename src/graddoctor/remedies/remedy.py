"""A remedy: a change of a recipe that undoes a cause, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit, edited
from graddoctor.terms import Cause


@dataclass(frozen=True)
class Remedy:
    """A function from one recipe to another, with the causes it addresses.

    Attributes
    ----------
    name
        What reports call it, such as ``"learning rate x 0.1"``.
    change
        The function itself.
    source
        Where the literature has it.
    around
        A context entered for the whole run. Only experiments need one, where the change must reach into the backward
        pass; a remedy that is prescribed lives in the recipe alone.
    modules
        The modules it changes, where it does not change the whole.
    rate
        Factor by which it changes the learning rate (1: it does not).
    edits
        The calls of plain PyTorch functions that it consists of, where it can be written down as such.
    cost
        What it costs, a few words (``""``: nothing).
    parts
        The remedies that a combination was made of, in their order; empty for a single one.
    """

    name: str
    causes: tuple[Cause, ...]
    change: Callable[[Recipe], Recipe] = field(repr=False)
    source: str = ""
    around: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)
    modules: tuple[str, ...] = ()
    rate: float = 1.0
    edits: tuple[Edit, ...] = field(default=(), repr=False)
    cost: str = ""
    parts: tuple[Remedy, ...] = field(default=(), repr=False)

    @classmethod
    def written(cls, name: str, causes: Iterable[Cause], edits: Iterable[Edit], **more: Any) -> Remedy:
        """Make a remedy of edits, so that it can be trained and written down alike."""
        edits = tuple(edits)
        return cls(name, tuple(causes), partial(edited, edits=edits), edits=edits, **more)

    def __call__(self, recipe: Recipe) -> Recipe:
        """Treat a recipe."""
        return self.change(recipe)

    @property
    def each(self) -> tuple[Remedy, ...]:
        """The single remedies that it consists of."""
        return self.parts or (self,)

    def then(self, other: Remedy) -> Remedy:
        """Both, this one first. The causes are this one's, then the other's."""
        return Remedy(
            name=f"{self.name}, {other.name}",
            causes=tuple(dict.fromkeys((*self.causes, *other.causes))),
            change=lambda recipe: other(self(recipe)),
            source="; ".join(dict.fromkeys(filter(None, (self.source, other.source)))),
            around=self.around if other.around is nullcontext else other.around,
            modules=tuple(dict.fromkeys((*self.modules, *other.modules))),
            rate=self.rate * other.rate,
            edits=(*self.edits, *other.edits) if self.edits and other.edits else (),
            cost="; ".join(dict.fromkeys(filter(None, (self.cost, other.cost)))),
            parts=(*self.each, *other.each),
        )
