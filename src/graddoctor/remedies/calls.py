"""One call of a torch function in a forward pass, and how many products a weight sums there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from graddoctor.remedies.functions import PRODUCTS, SETTINGS, tensors_in, with_first


@dataclass(frozen=True)
class Call:
    """One call of a torch function, and the tensor that it gave."""

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: Any
    out: torch.Tensor

    def on(self, tensor: torch.Tensor, *, copied: bool = False) -> torch.Tensor:
        """Make the same call on another tensor."""
        kwargs = {k: v for k, v in self.kwargs.items() if k != "inplace"}
        args, kwargs = with_first(tensor.clone() if copied else tensor, self.args, kwargs)
        result: torch.Tensor = self.func(*args, **kwargs)
        return result


def fan_in_of(call: Call, weight: torch.Tensor) -> int:
    """Number of products that are summed to one output of a weight, as this call uses it."""
    shape = weight.shape
    if call.name == "einsum" and isinstance(call.args[0], str):
        return _contracted(call, weight)
    if call.name.startswith("conv_transpose"):  # each output sees every stride-th place of the kernel
        places = len(shape) - 2
        stride = _setting(call, 3, "stride")
        steps = math.prod(stride) if isinstance(stride, (tuple, list)) else int(stride) ** places
        return max(1, shape[0] * math.prod(shape[2:]) // (steps * int(_setting(call, 6, "groups"))))
    if call.name in PRODUCTS:
        factors = tensors_in([call.args, call.kwargs])
        first = len(factors) > 1 and factors[-1] is not weight and call.name != "__rmatmul__"
        return int(shape[-1 if first else -2])
    return math.prod(shape[1:])


def settings_of(call: Call) -> tuple[float, ...]:
    """Return the numbers that shape an activation, such as a slope; ``()`` where they are the usual ones."""
    known = SETTINGS.get(call.name, ())
    values = [_setting(call, place, name, usual) for place, name, usual in known]
    numbers = tuple(float(v.detach().float().mean()) if isinstance(v, torch.Tensor) else float(v) for v in values)
    return numbers if numbers != tuple(usual for _, _, usual in known) else ()


def _setting(call: Call, place: int, name: str, usual: float = 1) -> Any:
    return call.args[place] if len(call.args) > place else call.kwargs.get(name, usual)


def _contracted(call: Call, weight: torch.Tensor) -> int:
    """Product of the weight's axes that an einsum sums over."""
    equation, *operands = call.args
    operands = tensors_in(operands)
    terms, arrow, result = equation.replace(" ", "").partition("->")
    index = next((k for k, operand in enumerate(operands) if operand is weight), -1)
    names = terms.split(",")[index].replace("...", "")
    kept = set(result) if arrow else {c for c in terms if terms.count(c) == 1}
    sizes = zip(names, weight.shape[-len(names) :], strict=False)
    return max(1, math.prod(size for name, size in sizes if name not in kept))
