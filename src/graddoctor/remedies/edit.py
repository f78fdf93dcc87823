"""An edit: one part of a recipe, changed by a call of a plain PyTorch function with literal arguments.

The same call is made when a treated recipe is trained and is written down when its source is asked for: what was proven
is what the user pastes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.train import network_of

Part = Literal["model", "optimizer", "scheduler", "loss", "clip", "batches", "epochs", "precision"]


@dataclass(frozen=True)
class Edit:
    """One change of one part.

    Attributes
    ----------
    part
        Which part. It fixes how `function` is called:

        - ``model``: ``function(model, **arguments) -> model``, after the user's builder and before anything is moved;
        - ``optimizer``: ``function(optimizer, model, **arguments) -> optimizer``, after the user's builder;
        - ``scheduler``: ``function(optimizer, **arguments) -> scheduler``, in place of the user's, stepped once a step;
        - ``loss``: ``function(model, batch, original, **arguments) -> loss``, around the user's;
        - ``clip``: ``function(parameters, **arguments) -> None``, in place of the user's;
        - ``batches``: ``function(original, **arguments) -> iterable``, called once a run, around the user's;
        - ``epochs``: no function, ``arguments={"epochs": n}``;
        - ``scheduler``, ``clip`` and ``precision`` may have no function either: that part is left out.
    function
        A module-level function of `graddoctor.remedies.plain`, or one that plain code has from ``torch`` by name.
    arguments
        Literals: numbers, strings, tuples, lists, dicts of them, and classes and functions of ``torch``.
    note
        What a reader of the source should know, a sentence.
    """

    part: Part
    function: Callable[..., Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __call__(self, recipe: Recipe) -> Recipe:
        """Change that part of a recipe."""
        if self.part == "epochs":
            return recipe.with_(**self.arguments)
        if self.function is None:
            return recipe.with_(**{self.part: None})
        return _CHANGES[self.part](recipe, self)


def edited(recipe: Recipe, edits: Iterable[Edit]) -> Recipe:
    """Apply edits one after the other."""
    for edit in edits:
        recipe = edit(recipe)
    return recipe


def changed(net: nn.Module, edit: Edit) -> nn.Module:
    """Make the call of an edit of the model on a network that is built."""
    new: nn.Module = _function(edit)(net, **edit.arguments)
    return new


def by_part(edits: Iterable[Edit]) -> dict[Part, list[Edit]]:
    """Sort edits by the part that they change, in their order."""
    parts: dict[Part, list[Edit]] = {}
    for edit in edits:
        parts.setdefault(edit.part, []).append(edit)
    return parts


def _model(recipe: Recipe, edit: Edit) -> Recipe:
    build = recipe.model

    def model(seed: int = recipe.seed) -> nn.Module:
        return changed(network_of(build, seed), edit)

    return recipe.with_(model=model)


def _optimizer(recipe: Recipe, edit: Edit) -> Recipe:
    build, function = recipe.optimizer, _function(edit)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        built: torch.optim.Optimizer = function(build(model), model, **edit.arguments)
        return built

    return recipe.with_(optimizer=optimizer)


def _scheduler(recipe: Recipe, edit: Edit) -> Recipe:
    function = _function(edit)

    def scheduler(optimizer: torch.optim.Optimizer) -> Any:
        return function(optimizer, **edit.arguments)

    return recipe.with_(scheduler=scheduler, scheduler_every="batch")


def _loss(recipe: Recipe, edit: Edit) -> Recipe:
    original, function = recipe.loss, _function(edit)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        value: torch.Tensor = function(model, batch, original, **edit.arguments)
        return value

    return recipe.with_(loss=loss)


def _clip(recipe: Recipe, edit: Edit) -> Recipe:
    function = _function(edit)

    def clip(parameters: list[torch.Tensor]) -> None:
        function(parameters, **edit.arguments)

    return recipe.with_(clip=clip)


def _batches(recipe: Recipe, edit: Edit) -> Recipe:
    original, function = recipe.batches, _function(edit)

    def batches() -> Iterable[Any]:
        source: Iterable[Any] = function(original() if callable(original) else original, **edit.arguments)
        return source

    return recipe.with_(batches=batches)


def _function(edit: Edit) -> Callable[..., Any]:
    assert edit.function is not None  # noqa: S101 - parts without one are changed before
    return edit.function


_CHANGES: dict[str, Callable[[Recipe, Edit], Recipe]] = {
    "model": _model,
    "optimizer": _optimizer,
    "scheduler": _scheduler,
    "loss": _loss,
    "clip": _clip,
    "batches": _batches,
}
