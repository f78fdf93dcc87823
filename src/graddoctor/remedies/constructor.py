"""How an optimizer is written: as the constructor of its class, with the options as they stand."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from graddoctor.errors import GraddoctorError
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.literals import Text, call, literal
from graddoctor.train import build_model

PARAMETERS_OF = '''def parameters_of(model: nn.Module, names: list[str]) -> list[nn.Parameter]:
    """Return the parameters of these names."""
    parameters = dict(model.named_parameters())
    return [parameters[name] for name in names]'''

_NO_OPTIONS = frozenset({"params", "param_names"})
_ALWAYS = "lr"


@dataclass(frozen=True)
class Constructor:
    """Source of an optimizer.

    Attributes
    ----------
    groups
        Its parameter groups, where they are no single argument; ``None`` otherwise.
    expression
        The call that builds it; ``None``: only the user's own function can.
    edits
        Those edits that are made after it, in order.
    """

    expression: Text | None
    edits: tuple[Edit, ...]
    groups: Text | None = None

    @property
    def names_parameters(self) -> bool:
        """Whether it needs `PARAMETERS_OF`."""
        return "parameters_of(" in f"{self.expression}{self.groups}"


def constructor(recipe: Recipe, models: Sequence[Edit], edits: Sequence[Edit]) -> Constructor:
    """Find how the optimizer of a treated recipe is built without the user's function.

    What an edit does to groups and options is written into the constructor. Edits that hang hooks on the optimizer stay
    calls, and so do those that split groups, where that is the shorter way. Each form is built and compared with what
    the edits made; where none is the same, or where the user's function changes the network too, that function is
    called, and then every edit.

    Parameters
    ----------
    models, edits
        The edits of the model and of the optimizer.
    """
    model = _treated(recipe, models)
    before = _state(model)
    optimizer, hooked, split = _run(recipe, model, edits)
    alone = _state(model) == before
    for kept in (sorted([*hooked, *split]), hooked) if alone else ():
        with suppress(GraddoctorError, TypeError, ValueError):  # a class of its own, or options that are no literals
            return _written(recipe, model, edits, [edits[k] for k in kept], optimizer)
    return Constructor(None, tuple(edits))


def _treated(recipe: Recipe, edits: Sequence[Edit]) -> nn.Module:
    for edit in edits:
        recipe = edit(recipe)
    return build_model(recipe)


def _state(model: nn.Module) -> list[tuple[bool, int, int]]:
    """What a function that builds optimizers may change in a network: what is trained, hooks, values."""
    return [(p.requires_grad, len(p._backward_hooks or ()), p._version) for p in model.parameters()]  # noqa: SLF001 - no public way to ask


def _run(recipe: Recipe, model: nn.Module, edits: Sequence[Edit]) -> tuple[torch.optim.Optimizer, list[int], list[int]]:
    """Build the optimizer and make the edits; which of them hang hooks on it, which make more groups."""
    optimizer = recipe.optimizer(model)
    hooked: list[int] = []
    split: list[int] = []
    for k, edit in enumerate(edits):
        before, hooks, groups = optimizer, _hooks(optimizer), len(optimizer.param_groups)
        optimizer = _applied(edit, before, model)
        if optimizer is not before:
            hooked, split = [], []
        elif _hooks(optimizer) > hooks:
            hooked.append(k)
        elif len(optimizer.param_groups) > groups:
            split.append(k)
    return optimizer, hooked, split


def _written(
    recipe: Recipe, model: nn.Module, edits: Sequence[Edit], kept: Sequence[Edit], target: torch.optim.Optimizer
) -> Constructor:
    """Write the constructor of what all edits but some make; the others follow as calls.

    Raises
    ------
    GraddoctorError
        It cannot be written, or would not be the same.
    """
    bare = recipe.optimizer(model)
    for edit in edits:
        if not any(edit is one for one in kept):
            bare = _applied(edit, bare, model)
    kind = type(bare)
    if getattr(torch.optim, kind.__name__, None) is not kind or _hooks(bare) or "step" in vars(bare):
        raise GraddoctorError(f"expected an optimizer of torch.optim, got {kind.__name__}: its own function builds it")
    common, own = _options(bare)
    sources = [_parameters(group["params"], model) for group in bare.param_groups]
    built = kind([{"params": g["params"], **o} for g, o in zip(bare.param_groups, own, strict=True)], **common)
    for edit in kept:
        built = _applied(edit, built, model)
    if not _alike(built, target):
        raise GraddoctorError(f"{kind.__name__} built anew is not the one that the edits make")
    name = f"torch.optim.{kind.__name__}"
    if len(sources) == 1 and not own[0]:
        return Constructor(call(name, sources[0], **common), tuple(kept))
    groups = [
        Text("{", (replace(source, key=literal("params")), *literal(options).items), "}")
        for source, options in zip(sources, own, strict=True)
    ]
    return Constructor(call(name, "groups", **common), tuple(kept), Text("[", tuple(groups), "]"))


def _options(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Options that all groups share and that are not the class's own defaults; then what each group has for itself."""
    signature = inspect.signature(type(optimizer)).parameters
    groups = optimizer.param_groups
    kind: Any = type(optimizer)
    fresh = kind([nn.Parameter(torch.zeros(1))]).param_groups[0]
    common, own = dict[str, Any](), [dict[str, Any]() for _ in groups]
    for key in groups[0]:
        if key in _NO_OPTIONS:
            continue
        values = [group[key] for group in groups]
        shared = all(_same(value, values[0]) for value in values)
        if shared and key in signature:
            if key == _ALWAYS or not _same(values[0], signature[key].default):
                common[key] = values[0]
        elif not (shared and key in fresh and _same(values[0], fresh[key])):
            for options, value in zip(own, values, strict=True):
                options[key] = value
    return common, own


def _parameters(held: Sequence[torch.Tensor], model: nn.Module) -> Text:
    """Source of the parameters of a group.

    Raises
    ------
    GraddoctorError
        Some are none of the model's.
    """
    mine = {id(p) for p in held}
    names = {name: p for name, p in model.named_parameters() if id(p) in mine}
    if len(names) != len(mine):
        raise GraddoctorError("the optimizer holds parameters that are none of the model's")
    everything = list(model.parameters())
    if len(names) == len(everything):
        return Text("model.parameters()")
    if mine == {id(p) for p in everything if p.requires_grad}:
        return Text("[parameter for parameter in model.parameters() if parameter.requires_grad]")
    return call("parameters_of", "model", literal(list(names)))


def _alike(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> bool:
    """Whether two optimizers hold the same parameters in groups of the same options, and remember the same of them."""
    if type(one) is not type(other) or len(one.param_groups) != len(other.param_groups):
        return False
    if len(one.state) != len(other.state) or not all(_same(one.state[p], other.state[p]) for p in other.state):
        return False
    return all(
        {id(p) for p in a["params"]} == {id(p) for p in b["params"]}
        and _same(*({k: v for k, v in g.items() if k not in _NO_OPTIONS} for g in (a, b)))
        for a, b in zip(one.param_groups, other.param_groups, strict=True)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return type(one) is type(other) and bool(one == other)


def _applied(edit: Edit, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    assert edit.function is not None  # noqa: S101 - an optimizer is never left out
    changed: torch.optim.Optimizer = edit.function(optimizer, model, **edit.arguments)
    return changed


def _hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)  # noqa: SLF001 - no public way to ask
