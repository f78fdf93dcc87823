"""Exchange nonlinearities, as modules and as functions alike; take one off the output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody uses
from torch.overrides import TorchFunctionMode

from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import (
    ACTIVATIONS,
    MATRIX,
    MIXERS,
    carries,
    first_tensor,
    in_place,
    name_of,
    tensors_in,
    with_first,
    wrap_forward,
)
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.survey import Survey
from graddoctor.terms import Cause
from graddoctor.train import network_of

LEAK = 0.1


class _Exchange(TorchFunctionMode):
    """Runs `replacement` in place of the nonlinearities of some kinds; the one that makes the output stays."""

    def __init__(
        self, kinds: Collection[str], replacement: Callable[[torch.Tensor], torch.Tensor], output: int | None
    ) -> None:
        super().__init__()
        self.kinds, self.replacement, self.output, self.count = frozenset(kinds), replacement, output, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        first = first_tensor(args, kwargs)
        if name not in ACTIVATIONS or first is None or not first.is_floating_point():
            return func(*args, **kwargs)
        index, self.count = self.count, self.count + 1
        mixes = name in MIXERS and first.ndim > MATRIX
        if name in self.kinds and index != self.output and not mixes:
            if in_place(func, kwargs, args):  # whoever holds the tensor sees what was written
                return first.copy_(self.replacement(first.clone()))
            return self.replacement(first)
        return func(*args, **kwargs)


class _Bare(TorchFunctionMode):
    """Remembers the value before the last nonlinearity, through the reshapes and constants that follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: dict[int, tuple[Any, torch.Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, first = name_of(func), first_tensor(args, kwargs)
        if first is not None and name in ACTIVATIONS:
            before = first.clone() if in_place(func, kwargs, args) else first
            result = func(*args, **kwargs)
            self.raw[id(result)] = (result, before)
            return result
        result = func(*args, **kwargs)
        carried = first is not None and id(first) in self.raw and carries(name, first, args, kwargs)
        if carried and first is not None and tensors_in(result):
            raw = self.raw[id(first)][1]
            new_args, new_kwargs = with_first(raw.clone() if in_place(func, kwargs, args) else raw, args, kwargs)
            self.raw[id(result)] = (result, func(*new_args, **new_kwargs))
        return result

    def before(self, output: Any, instead: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return instead(self.raw[id(output)][1]) if id(output) in self.raw else output


def exchanged(
    kinds: Collection[str], seen: Survey, replacement: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Remedy:
    """Leaky ReLU (slope 0.1) in place of every hidden nonlinearity of the given kinds; attention stays.

    ``kinds`` are names as `Survey.activations` has them, ``seen`` tells which call makes the output and stays, and
    ``replacement`` is another elementwise function to put there. In-place calls are exchanged in place.

    Source: Maas, Hannun and Ng 2013; it neither saturates nor dies, so what it cures was one or the other.
    """
    swap = replacement or (lambda x: F.leaky_relu(x, LEAK))
    output = seen.output.index if seen.output else None

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with _Exchange(kinds, swap, output):
            return forward(*args, **kwargs)

    name = f"leaky ReLU in place of {', '.join(sorted(kinds))}"
    return Remedy(name, (Cause.ACTIVATION,), _on_model(wrapper), "Maas et al. 2013")


def bare_output() -> Remedy:
    """Give the loss what the network computes before its last nonlinearity."""
    return _output("no activation on the output", lambda raw: raw)


def sigmoid_output() -> Remedy:
    """Put a sigmoid in place of the network's last nonlinearity, for losses that want probabilities."""
    return _output("sigmoid on the output", torch.sigmoid)


def _output(name: str, instead: Callable[[torch.Tensor], torch.Tensor]) -> Remedy:

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        mode = _Bare()
        with mode:
            output = forward(*args, **kwargs)
        return mode.before(output, instead)

    return Remedy(name, (Cause.OUTPUT_ACTIVATION,), _on_model(wrapper))


def _on_model(wrapper: Callable[[Callable[..., Any], Any, Any], Any]) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        build = recipe.model

        def model(seed: int = recipe.seed) -> nn.Module:
            return wrap_forward(network_of(build, seed), wrapper)

        return recipe.with_(model=model)

    return change
