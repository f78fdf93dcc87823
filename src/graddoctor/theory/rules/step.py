"""What a rule says of one call: the laws of its results, and how a gradient passes back through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graddoctor.errors import RecipeError
from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat, measured

Back = Callable[[Gradient], Gradient]

MASKED = -1e4
"""A number below this that is added to a score shuts the place out."""


@dataclass(frozen=True)
class Pull:
    """How the gradient at one result becomes a part of the gradient at one input."""

    ref: Ref
    back: Back
    result: int = 0


@dataclass(frozen=True)
class Step:
    """The laws of a call's results (``None``: not followed), and how gradients go back."""

    laws: tuple[Law | None, ...]
    pulls: tuple[Pull, ...] = ()


class Scene:
    """The laws that are known so far, how many samples the batch holds, and which tensors were written to again."""

    def __init__(self, samples: int, law: Callable[[int], Law], rewritten: frozenset[int] = frozenset()) -> None:
        self.samples, self.rewritten = samples, rewritten
        self._law = law

    def __call__(self, ref: Ref) -> Law:
        """The law of a tensor, with its axes."""
        return self._law(ref.index).shaped(ref.shape)

    def of(self, value: Any, like: Ref) -> Law:
        """The law of an operand that meets another one: a tensor with samples, a constant tensor, or a number."""
        if isinstance(value, Ref):
            return self(value)
        if isinstance(value, Tensor):
            return constant(value, like, self.samples)
        number = float(value)
        return Law(flat(number**2, len(like.shape)), number, number**2, number**2, fixed=True)


Rule = Callable[[Call, Scene], Step | None]
"""``None``: the rule does not hold for this call, which is then measured."""


def constant(tensor: Tensor, like: Ref, samples: int) -> Law:
    """The law of a constant: the same in all samples, or in all places, unless its shape tells them apart."""
    axes = len(like.shape)
    if tensor.numel() == 1:
        number = float(tensor)
        return Law(flat(number**2, axes), number, number**2, number**2, fixed=True)
    law = measured(tensor, samples if tensor.dim() == axes else 0)
    average = law.average
    apart = tensor.dim() == axes and tensor.shape[0] == samples
    places = [n for n in tensor.shape if n > 1]
    return Law(
        square=flat(average, axes),
        mean=law.mean,
        between=law.between if apart else average,
        along=law.along if len(places) > 1 else average,
    )


def second(weight: Tensor, call: Call) -> float:
    """E[W²] of a weight.

    Raises
    ------
    RecipeError
        It holds numbers that are not finite.
    """
    value = float(torch.linalg.vector_norm(weight.detach().float())) ** 2 / max(weight.numel(), 1)
    if not math.isfinite(value):
        where = call.module or "the model"
        raise RecipeError(
            f"the weights of {where!r} are not finite, so nothing can be predicted: look at how they are initialized"
        )
    return value


def named(call: Call) -> dict[str, Any]:
    """All that a call was given, by the names that its operator has for it: kernels differ in their order."""
    names = (parameter.name for parameter in call.function._schema.arguments)  # noqa: SLF001 - the operator's public description
    return {**dict(zip(names, call.arguments, strict=False)), **call.options}


def argument(call: Call, place: int, name: str, default: Any = None) -> Any:
    """An argument by place or by name."""
    return call.arguments[place] if len(call.arguments) > place else call.options.get(name, default)
