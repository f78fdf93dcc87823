"""Keep weights in float32 that are computed with in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def keep_master_weights(model: nn.Module) -> nn.Module:
    """Keep 16-bit weights in float32, where small steps add up; forward computes with 16-bit casts.

    Names stay, and states saved before can be loaded.
    """
    for module in model.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        types = {n: p.dtype for n, p in own if p.dtype in (torch.float16, torch.bfloat16)}
        module.__dict__.update(cast_types=types, masters={})
    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    model.register_forward_pre_hook(show_casts)
    model.register_forward_hook(show_masters, always_call=True)
    return model


def master_weights_loss(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss with the 16-bit casts of the weights."""
    show_casts(model)
    try:
        return original(model, batch)
    finally:
        show_masters(model)


def show_casts(model: nn.Module, inputs: Any = None) -> None:
    """Put the casts in the place of the weights, unless they stand there already."""
    model.__dict__["casting"] = model.__dict__.get("casting", 0) + 1
    if model.__dict__["casting"] > 1:
        return
    casts: dict[Any, Any] = {}
    for module in model.modules():
        for name, dtype in module.__dict__.get("cast_types", {}).items():
            master: Any = module._parameters[name]  # noqa: SLF001 - a cast is no nn.Parameter
            module.__dict__["masters"][name] = master
            if master not in casts:
                casts[master] = master.to(dtype)
            place_weight(module, name, casts[master])


def show_masters(model: nn.Module, inputs: Any = None, output: Any = None) -> None:
    """Put the weights back in their place."""
    model.__dict__["casting"] -= 1
    if model.__dict__["casting"]:
        return
    for module in model.modules():
        masters = module.__dict__.get("masters", {})
        while masters:
            place_weight(module, *masters.popitem())


def place_weight(module: Any, name: str, weight: torch.Tensor) -> None:
    """Put a tensor in the place of a parameter; recurrent layers hold theirs a second time."""
    module._parameters[name] = weight  # noqa: SLF001
    if name in getattr(module, "_flat_weights_names", ()):
        module._flat_weights[module._flat_weights_names.index(name)] = weight  # noqa: SLF001
