"""Attach what is cut off: detached tensors, gradients switched off, hooks, frozen weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle


def attached_loss(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss as if nothing were detached and nothing switched gradients off.

    Better take these calls out of your code.
    """
    with AttachedMode():
        return original(model, batch)


class AttachedMode(TorchFunctionMode):
    """Makes nothing of `detach`, `.data` and `torch.no_grad`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, unless it cuts the graph."""
        if cuts_graph(func):
            return args[0] if isinstance(args[0], torch.Tensor) else None
        if leaves_torch(func):
            args = (args[0].detach(), *args[1:])
        return func(*args, **(kwargs or {}))


def leaves_torch(func: Callable[..., Any]) -> bool:
    """Whether a function makes a NumPy array, which needs a tensor that is cut off."""
    return getattr(func, "__name__", "") in {"numpy", "__array__"}


def cuts_graph(func: Callable[..., Any]) -> bool:
    """Whether a function is a way to cut the graph."""
    names = {"detach", "detach_", "_set_grad_enabled"}
    return getattr(func, "__name__", "") in names or func == torch.Tensor.data.__get__  # type: ignore[attr-defined]


def remove_gradient_hooks(model: nn.Module) -> nn.Module:
    """Take all hooks off the gradients of the parameters."""
    for parameter in model.parameters():
        parameter._backward_hooks = None  # noqa: SLF001 - their handles are not at hand
    return model


def hookless_loss(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss without the hooks that it would put on the gradients of its tensors.

    Better take the calls of `register_hook` out of your code.
    """
    with HooklessMode():
        return original(model, batch)


class HooklessMode(TorchFunctionMode):
    """Makes nothing of `register_hook`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, or hand out the handle of a hook that is nowhere."""
        if getattr(func, "__name__", "") == "register_hook":
            return RemovableHandle(OrderedDict())
        return func(*args, **(kwargs or {}))


def unfreeze(model: nn.Module) -> nn.Module:
    """Make every floating parameter trainable."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return model
