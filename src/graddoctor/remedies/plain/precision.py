"""Compute in float32, or in bfloat16, what was computed in fewer bits or in a smaller range."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def widen_weights(model: nn.Module) -> nn.Module:
    """Keep 16-bit parameters and buffers in float32, and take 16-bit inputs as float32."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = widened(tensor.data)
    model.register_forward_pre_hook(widen_inputs_hook, with_kwargs=True, prepend=True)
    return model


def widen_inputs_hook(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make float32 of a network's 16-bit inputs."""
    return tuple(map(widened, args)), {name: widened(value) for name, value in kwargs.items()}


def widened(value: Any) -> Any:
    """Make float32 of a 16-bit tensor, also inside of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, (tuple, list)):
        items = map(widened, value)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        twin = copy.copy(value)
        twin.update((key, widened(item)) for key, item in value.items())
        return twin
    return value


class WiderCasts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Casts to 16 bits become casts to other types, in autocast and custom functions too."""

    def __init__(self, types: dict[torch.dtype, torch.dtype]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.types = types

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the operation with wider types."""

        def wider(value: Any) -> Any:
            return self.types.get(value, value) if isinstance(value, torch.dtype) else value

        return func(*map(wider, args), **{k: wider(v) for k, v in (kwargs or {}).items()})


FLOAT32_CASTS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def float32_loss(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss in float32, whatever autocast or casts by hand would make of it.

    Better take the casts out of your code. What a custom backward casts stays as it is.
    """
    device = next(model.parameters()).device.type
    with torch.autocast(device, enabled=False), WiderCasts(FLOAT32_CASTS):
        return original(model, widened(batch))


def float32_forward(model: nn.Module) -> nn.Module:
    """Let the network compute in float32 outside of the loss too, also where it casts by hand."""
    model.register_forward_pre_hook(enter_float32_hook, prepend=True)
    model.register_forward_hook(leave_float32_hook, always_call=True)
    return model


def enter_float32_hook(module: Any, inputs: Any) -> None:
    """Widen casts from here on."""
    mode = WiderCasts(FLOAT32_CASTS)
    mode.__enter__()  # type: ignore[no-untyped-call]
    module.__dict__.setdefault("float32_modes", []).append(mode)


def leave_float32_hook(module: Any, inputs: Any, output: Any) -> None:
    """Widen casts no longer."""
    module.float32_modes.pop().__exit__(None, None, None)


def bfloat16_loss(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss with bfloat16 where autocast or casts by hand ask for float16.

    Its numbers reach as far as float32's: gradients that float16 rounds to zero are kept.
    """
    with WiderCasts({torch.float16: torch.bfloat16}):
        return original(model, batch)


def autocast_loss(
    model: nn.Module, batch: Any, original: Callable[..., Any], *, dtype: torch.dtype
) -> Any:
    """Compute a loss under autocast."""
    with torch.autocast(next(model.parameters()).device.type, dtype=dtype):
        return original(model, batch)
