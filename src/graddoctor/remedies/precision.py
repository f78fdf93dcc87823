"""Train in float32 what was trained in fewer bits."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from graddoctor.nested import leaves, mapped
from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import loss_of, network_of

LOW = frozenset({torch.float16, torch.bfloat16})


class Float32Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Casts to 16 bits become casts to float32, below autograd: in custom functions and in backward too."""

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        return func(*map(_wide, args), **{k: _wide(v) for k, v in (kwargs or {}).items()})


def _float32_mode() -> AbstractContextManager[Any]:
    mode: AbstractContextManager[Any] = Float32Mode()  # type: ignore[no-untyped-call]
    return mode


def _wide(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in LOW else value


class _LowSeen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        self.seen |= any(tensor.dtype in LOW for _, tensor in leaves(result))
        return result


def uses_low_precision(recipe: Recipe, model: nn.Module, batch: Any) -> bool:
    """Whether anything in a step is computed in 16 bits, on the way forth or back, by autocast or by hand."""
    mode = _LowSeen()
    with kept_random_state(), mode:
        loss = loss_of(recipe, model, batch)
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            torch.autograd.backward(loss.sum())
    model.zero_grad(set_to_none=True)
    return mode.seen


def float32() -> Remedy:
    """Everything in float32: parameters, autocast, and the casts that the network makes itself.

    Casts on the way back are undone only within ``remedy.around``. What was rounded before it came here stays so.

    Source: Micikevicius et al. 2018 on what 16 bits cannot hold.
    """

    def change(recipe: Recipe) -> Recipe:
        build, loss = recipe.model, recipe.loss

        def model(seed: int = recipe.seed) -> nn.Module:
            with _float32_mode():
                net = network_of(build, seed)
            for tensor in (*net.parameters(), *net.buffers()):
                if tensor.dtype in LOW:
                    tensor.data = tensor.data.float()
            return net

        def widened(net: nn.Module, batch: Any) -> torch.Tensor:
            with torch.autocast(torch.device(recipe.device).type, enabled=False):
                return loss(net, mapped(_widened, batch))

        return recipe.with_(model=model, loss=widened, precision=None)

    return Remedy("float32 throughout", (Cause.PRECISION,), change, "Micikevicius et al. 2018", around=_float32_mode)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in LOW else tensor
