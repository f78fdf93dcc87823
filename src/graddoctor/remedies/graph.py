"""Attach what was cut off: detached tensors, gradients switched off, frozen parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import name_of
from graddoctor.remedies.optimizer import every_parameter
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import network_of


class _AttachedMode(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = name_of(func)
        if name == "set_grad_enabled":  # torch.no_grad, and whatever else switches recording off
            return None
        if name == "detach" or func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0]
        return func(*args, **(kwargs or {}))


def attached() -> Remedy:
    """Compute the loss as if nothing in it were detached and nothing switched gradients off."""

    def change(recipe: Recipe) -> Recipe:
        loss = recipe.loss

        def whole(model: nn.Module, batch: Any) -> torch.Tensor:
            with _AttachedMode():
                return loss(model, batch)

        return recipe.with_(loss=whole)

    return Remedy("nothing detached", (Cause.GRAPH,), change)


class _HooklessMode(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if name_of(func) == "register_hook":
            return RemovableHandle(OrderedDict())
        return func(*args, **(kwargs or {}))


def unhooked() -> Remedy:
    """Train without hooks on the gradients of parameters and of tensors: what they clip, scale or drop is kept."""

    def change(recipe: Recipe) -> Recipe:
        build, loss = recipe.model, recipe.loss

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed)
            for parameter in net.parameters():
                parameter._backward_hooks = None  # noqa: SLF001 - the only way to take off what one has no handle of
            return net

        def free(net: nn.Module, batch: Any) -> torch.Tensor:
            with _HooklessMode():
                return loss(net, batch)

        return recipe.with_(model=model, loss=free)

    return Remedy("gradient hooks taken off", (Cause.CLIPPING,), change)


def unfrozen() -> Remedy:
    """Make every floating parameter trainable, and give it to the optimizer."""

    def change(recipe: Recipe) -> Recipe:
        build = recipe.model

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed)
            for parameter in net.parameters():
                if parameter.is_floating_point():
                    parameter.requires_grad_(True)
            return net

        return every_parameter()(recipe.with_(model=model))

    return Remedy("nothing frozen", (Cause.GRAPH,), change)
