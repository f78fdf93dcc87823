"""Where the first number that is not finite comes from: the operation that makes it, not those that hand it on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from graddoctor.nested import leaves
from graddoctor.observe.probe import probe
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import LINEAR, NORMALIZATIONS, name_of, tensors_in, wrap_forward
from graddoctor.terms import Cause
from graddoctor.train import Observer, loss_of, train

_QUOTIENTS = frozenset(
    {"div", "true_divide", "__truediv__", "__rtruediv__", "sqrt", "rsqrt", "reciprocal", "std", "var", "norm", "pow"}
)
"""What a normalization written by hand is made of."""

_NO_OPERATION = frozenset({"t", "transpose", "view", "reshape"})


@dataclass(frozen=True)
class Origin:
    """The operation whose inputs are finite and whose result, or gradient, is not.

    ``where`` is ``"input"``, ``"network"`` or ``"loss"``; ``largest`` the largest magnitude among its inputs;
    ``module`` the innermost module that it runs in (``""``: the root, or none).
    """

    step: int
    operation: str
    where: str
    backward: bool = False
    largest: float = math.nan
    module: str = ""

    @property
    def cause(self) -> Cause | None:
        """What is to be changed; a product that overflows only shows that something has grown."""
        if self.where == "input":
            return Cause.INPUT_SCALE
        if self.where == "loss":
            return Cause.LOSS
        if self.operation in LINEAR:
            return None
        by_hand = self.operation in NORMALIZATIONS | _QUOTIENTS
        return Cause.NORMALIZATION if by_hand else Cause.ACTIVATION

    @property
    def sentence(self) -> str:
        """What happened, for a reader."""
        if self.where == "input":
            return "The batch itself holds numbers that are not finite."
        way = "the gradient of " if self.backward else ""
        size = f", from inputs of at most {self.largest:.3g}" if math.isfinite(self.largest) else ""
        return f"The first of them is made at step {self.step} by {way}{self.operation} in the {self.where}{size}."


def origin_of(recipe: Recipe, bad_step: int, steps: int) -> Origin | None:
    """Train again up to the step where the loss was lost, and look at every operation of it.

    Parameters
    ----------
    bad_step, steps
        The first step with a loss that is not finite, and how many steps the run was to take.

    Returns
    -------
    Origin or None
        ``None`` where no single operation can be named.
    """
    witness = _Witness(recipe, bad_step)
    train(recipe.with_(evaluate=None), steps=steps, observer=witness)
    return witness.origin


class _Witness(Observer):
    """Follows the forward pass of the bad step and, where that begins broken, the backward pass before it."""

    def __init__(self, recipe: Recipe, bad_step: int) -> None:
        self.recipe, self.bad_step = recipe, bad_step
        self.origin: Origin | None = None
        self.backward: Origin | None = None

    @override
    def before_step(self, step: int, model: nn.Module, batch: Any) -> None:
        if step == self.bad_step - 1:
            self.backward = _in_backward(self.recipe, model, batch, step)
        if step == self.bad_step:
            broken = not all(_finite(p) for p in model.parameters())
            self.origin = self.backward if broken else _in_forward(self.recipe, model, batch, step)
            self.stop = True


class _Tracer(TorchFunctionMode):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.inside = step, False
        self.stack: list[str] = []
        self.origin: Origin | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [t for t in tensors_in([args, kwargs or {}]) if t.is_floating_point()]
        if self.origin is None and not all(map(_finite, tensors_in(result))) and all(map(_finite, given)):
            largest = max((float(t.detach().abs().max()) for t in given if t.numel()), default=math.nan)
            where = "network" if self.inside else "loss"
            module = self.stack[-1] if self.stack else ""
            self.origin = Origin(self.step, name_of(func), where, largest=largest, module=module)
        return result


def _in_forward(recipe: Recipe, model: nn.Module, batch: Any, step: int) -> Origin | None:
    if not all(_finite(tensor) for _, tensor in leaves(batch)):
        return Origin(step, "the batch", "input")
    tracer = _Tracer(step)
    own = model.__dict__.get("forward")

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        tracer.inside = True
        try:
            return forward(*args, **kwargs)
        finally:
            tracer.inside = False

    wrap_forward(model, wrapper)
    hooks = [hook for name, module in model.named_modules() for hook in _stacked(module, name, tracer.stack)]
    try:
        with torch.no_grad(), tracer:
            loss_of(recipe, model, batch)
    finally:
        for hook in hooks:
            hook.remove()
        del model.__dict__["forward"]
        if own is not None:
            model.forward = own
    return tracer.origin


def _stacked(module: nn.Module, name: str, stack: list[str]) -> tuple[RemovableHandle, RemovableHandle]:
    """Keep the name of a module on the stack while it runs."""
    return (
        module.register_forward_pre_hook(lambda _m, _i: stack.append(name)),
        module.register_forward_hook(lambda _m, _i, _o: _forget(stack), always_call=True),
    )


def _forget(stack: list[str]) -> None:
    stack.pop()


def _in_backward(recipe: Recipe, model: nn.Module, batch: Any, step: int) -> Origin | None:
    """The last operation that a finite gradient reaches and an infinite one leaves."""
    look = probe(model, lambda m, b: loss_of(recipe, m, b), [batch], step=step)
    lost = [
        op
        for op in look.operations
        if math.isfinite(op.arriving) and op.arriving > 0 and not math.isfinite(op.leaving)
        if op.kind not in _NO_OPERATION
    ]
    if not lost:
        return None
    where = "network" if lost[-1].module else "loss"
    return Origin(step, lost[-1].kind, where, backward=True, module=lost[-1].module)


def _finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or not value.is_floating_point() or bool(torch.isfinite(value).all())
