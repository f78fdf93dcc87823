"""Attach what was cut off: detached tensors, gradients switched off, frozen parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graddoctor.errors import RecipeError
from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.lines import users_line
from graddoctor.remedies.plain.graph import (
    attached_loss,
    cuts_graph,
    hookless_loss,
    leaves_torch,
    remove_gradient_hooks,
    unfreeze,
)
from graddoctor.remedies.plain.steps import hold_everything
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.tracebacks import locate
from graddoctor.train import BatchSource, build_model, loss_of

_SAME = 1e-6


def attached() -> Remedy:
    """Compute the loss as if nothing in it were detached and nothing switched gradients off."""
    return _attached("")


def _attached(note: str, modules: tuple[str, ...] = ()) -> Remedy:
    edit = Edit("loss", attached_loss, {}, note)
    return Remedy.written("nothing detached", (Cause.GRAPH,), [edit], modules=modules)


def nothing_detached(facts: Facts) -> Remedy | None:
    """Compute the loss as if nothing were detached; ``None`` where no parameter gets a gradient that way that had none.

    What is detached on purpose beside it is attached too. The note of the edit names the lines that cut off parameters.

    Raises
    ------
    RecipeError
        Attaching is not enough: tensors pass through NumPy, or the loss cannot be computed so. The message names the
        line.
    """
    recipe = facts.recipe
    before = _slopes(recipe)
    if all(slope is not None for slope in before.values()):
        return None
    every = _AttachedAt()
    try:
        found = _gained(before, _slopes(recipe, every))
    except Exception as error:
        msg = f"the loss cannot be computed with nothing detached: {locate(error)}; change that line by hand"
        raise RecipeError(msg) from error
    if not found and every.left:
        where = f" at {every.left[0]}" if every.left[0] else ""
        msg = f"a tensor becomes a NumPy array{where}, and no gradient comes back from there: use torch"
        raise RecipeError(msg)
    if not found:
        return None
    lines = ", ".join(_cutting_lines(recipe, before, every.seen))
    note = f"Better change the line that cuts the graph: {lines}." if lines else ""
    return _attached(note, tuple(dict.fromkeys(name.rpartition(".")[0] for name in found)))


def detaches(recipe: Recipe) -> bool:
    """Whether any gradient is another one when nothing is detached, of parameters that get one anyhow."""
    every = _AttachedAt()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of a number that is taken of what is attached now
        before, after = _slopes(recipe), _slopes(recipe, every)
    return every.cut and any(_differ(before[name], slope) for name, slope in after.items())


def _cutting_lines(recipe: Recipe, before: dict[str, torch.Tensor | None], lines: list[str]) -> list[str]:
    """Those lines each of which, attached alone, gives a parameter its gradient; all, where none does."""
    alone = []
    for line in lines:
        try:
            found = _gained(before, _slopes(recipe, _AttachedAt(line)))
        except Exception:  # noqa: BLE001 - half attached, it need not work
            found = []
        alone += [line] if found else []
    return alone or lines


class _AttachedAt(TorchFunctionMode):
    """Attaches what one line of the user's code cuts off, or what all cut off, and notes the lines."""

    def __init__(self, line: str = "") -> None:
        super().__init__()
        self.line = line
        self.seen: list[str] = []
        self.left: list[str] = []
        self.cut = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if leaves_torch(func):
            self.left.append(users_line())
            return func(args[0].detach(), *args[1:], **(kwargs or {}))
        if not cuts_graph(func) or args[0] is True:
            return func(*args, **(kwargs or {}))
        self.cut, line = True, users_line()
        if line and line not in self.seen:
            self.seen.append(line)
        if self.line not in {"", line}:
            return func(*args, **(kwargs or {}))
        return args[0] if isinstance(args[0], torch.Tensor) else None


def _gained(before: dict[str, torch.Tensor | None], after: dict[str, torch.Tensor | None]) -> list[str]:
    return [name for name, slope in after.items() if slope is not None and before[name] is None]


def _slopes(recipe: Recipe, mode: TorchFunctionMode | None = None) -> dict[str, torch.Tensor | None]:
    """Gradient of every trainable parameter on the first batch, by name; ``None`` for one that gets none."""
    batch = BatchSource(recipe).first(1)[0]
    model = build_model(recipe)
    around: AbstractContextManager[Any] = mode or nullcontext()
    with seeded(recipe.seed), torch.enable_grad():
        with around:
            loss = loss_of(recipe, model, batch)
        if loss.requires_grad:
            torch.autograd.backward(loss.sum())
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def unhooked() -> Remedy:
    """Train without hooks on the gradients of parameters and of tensors: what they clip, scale or drop is kept."""
    return _unhooked("")


def _unhooked(note: str) -> Remedy:
    edits = (Edit("model", remove_gradient_hooks), Edit("loss", hookless_loss, {}, note))
    return Remedy.written("gradient hooks taken off", (Cause.CLIPPING,), edits)


def hooks_off(facts: Facts) -> Remedy | None:
    """Train without hooks on gradients; ``None`` where there are none, or where they leave the gradient as it is."""
    hooks: Any = _Hooks()
    with hooks:
        build_model(facts.recipe)
    before = _slopes(facts.recipe, hooks)
    after = _slopes(unhooked()(facts.recipe))
    if not any(_differ(before[name], slope) for name, slope in after.items()):
        return None
    lines = ", ".join(dict.fromkeys(filter(None, hooks.lines)))
    return _unhooked(f"Better take out the hooks that are put on at {lines}." if lines else "")


class _Hooks(TorchFunctionMode):
    """Notes the lines that put hooks on gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") == "register_hook":
            self.lines.append(users_line())
        return func(*args, **(kwargs or {}))


def _differ(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is not other
    return bool((one - other).norm() > _SAME * other.norm())  # what is not a number tells nothing


def unfrozen() -> Remedy:
    """Make every floating parameter trainable, and give it to the optimizer."""
    edits = (Edit("model", unfreeze), Edit("optimizer", hold_everything))
    return Remedy.written("nothing frozen", (Cause.GRAPH,), edits)


def everything_trained(facts: Facts) -> Remedy | None:
    """Make every floating parameter trainable, and give it to the optimizer; ``None`` where none is frozen."""
    frozen = _frozen(facts.model)
    if not frozen:
        return None
    edits = (Edit("model", unfreeze, {}, f"Frozen as built: {', '.join(frozen)}."), *unfrozen().edits[1:])
    cost = "gradients and optimizer state for what was frozen"
    return Remedy.written("nothing frozen", (Cause.GRAPH,), edits, modules=frozen, cost=cost)


def _frozen(model: nn.Module) -> tuple[str, ...]:
    """Modules with a floating parameter of their own that is not trained."""
    names = (n for n, p in model.named_parameters() if p.is_floating_point() and not p.requires_grad)
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))
