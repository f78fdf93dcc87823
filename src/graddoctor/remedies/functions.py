"""The torch functions that a forward pass calls, by what they are: seen alike as modules, functions or methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graddoctor.nested import leaves
from graddoctor.remedies.plain.activations import NONLINEARITIES

ACTIVATIONS = NONLINEARITIES
"""Functions that count as nonlinearities, without the underscore of their in-place form."""

HARSH = frozenset("sigmoid hardsigmoid logsigmoid exp expm1 square softmax softmin".split())
"""Activations that lose or multiply the signal at any weight scale."""

SMOOTH_SATURATING = frozenset("tanh hardtanh softsign sin cos erf".split())
RECTIFIED = frozenset("relu relu6 threshold".split())

SETTINGS = {
    "leaky_relu": ((1, "negative_slope", 0.01),),
    "prelu": ((1, "weight", 0.25),),
    "elu": ((1, "alpha", 1.0),),
    "celu": ((1, "alpha", 1.0),),
    "hardtanh": ((1, "min_val", -1.0), (2, "max_val", 1.0)),
}
"""Numbers that shape an activation: the place of each among the arguments, its name, and what it usually is."""

ELEMENTWISE = ACTIVATIONS - {"softmax", "log_softmax", "softmin", "prelu"}
MIXERS = frozenset({"softmax", "softmin", "log_softmax"})
MATRIX = 2
"""A softmax over more axes than a matrix has weighs positions against each other: attention, and no nonlinearity."""

LINEAR = frozenset(
    "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm addmm "
    "__matmul__ __rmatmul__ einsum multi_head_attention_forward".split()
)
PRODUCTS = frozenset("matmul mm bmm addmm __matmul__ __rmatmul__ einsum".split())
"""Products whose right-hand factor has its inputs in rows."""

NORMALIZATIONS = frozenset(
    "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize rsqrt".split()
)
"""``rsqrt`` is how a norm that is written by hand divides, as those of Llama and T5."""

RESHAPING = frozenset(
    "view reshape squeeze unsqueeze flatten unflatten permute transpose t T mT contiguous __getitem__ expand "
    "view_as reshape_as movedim swapaxes".split()
)
SCALING = frozenset(
    "mul add sub div rsub true_divide __mul__ __rmul__ __add__ __radd__ __sub__ __rsub__ __truediv__ to float".split()
)
"""Functions that only shift or scale when all but one of their arguments are constants."""

ADDITIONS = frozenset("add add_ __add__ __radd__ __iadd__".split())


def name_of(function: Callable[..., Any]) -> str:
    """Return the function's name without the underscore of its in-place form; of a property, the property's."""
    name: str = getattr(function, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", "")
    return name if name.startswith("__") else name.strip("_")


def in_place(function: Callable[..., Any], kwargs: dict[str, Any], args: tuple[Any, ...] = ()) -> bool:
    """Whether the call overwrites its first argument."""
    name: str = getattr(function, "__name__", "")
    positional = name in {"relu", "elu", "celu", "selu", "silu", "mish", "relu6"} and len(args) > 1 and args[-1] is True
    return (name.endswith("_") and not name.endswith("__")) or bool(kwargs.get("inplace")) or positional


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return the tensor that the function works on: its first argument, or ``input=``."""
    first = args[0] if args else kwargs.get("input")
    return first if isinstance(first, torch.Tensor) else None


def with_first(
    tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Exchange the tensor that the function works on."""
    return ((tensor, *args[1:]), kwargs) if args else ((), {**kwargs, "input": tensor})


def tensors_in(thing: Any) -> list[torch.Tensor]:
    """Collect the tensors in nested containers."""
    return [tensor for _, tensor in leaves(thing)]


def carries(name: str, first: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call hands its first tensor on, reshaped, shifted or scaled by constants."""
    if name in RESHAPING:
        return True
    others = [t for t in tensors_in([args, kwargs]) if t is not first]
    return name in SCALING and not any(t.requires_grad for t in others)


def wrap_forward(model: nn.Module, wrapper: Callable[[Callable[..., Any], Any, Any], Any]) -> nn.Module:
    """Run ``wrapper(forward, args, kwargs)`` in place of this one object's forward."""
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, args, kwargs)

    model.forward = forward
    return model
