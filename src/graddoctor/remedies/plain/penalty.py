"""Take out of a loss what it adds for the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)


def unpenalised_loss(
    model: nn.Module, batch: Any, original: Callable[..., Any], *, keep_value: bool = False
) -> Any:
    """Compute a loss without its penalty on the weights, such as an L2 norm written into it.

    What the loss reads of the weights outside of the network's own forward is zero, or a copy of
    their values where `keep_value` says so. A network in eval mode is shown as it is.
    """
    if not model.training:
        return original(model, batch)
    stand_ins = {}
    for parameter in model.parameters():
        value = parameter.detach().clone() if keep_value else torch.zeros_like(parameter)
        stand_ins[parameter] = nn.Parameter(value, parameter.requires_grad)
    with weights_hidden(model, stand_ins):
        return original(model, batch)


@contextmanager
def weights_hidden(model: nn.Module, stand_ins: dict[nn.Parameter, nn.Parameter]) -> Iterator[None]:
    """Show other parameters than a network's own, except to its modules while they run."""
    modules = set(model.modules())
    places = [
        (module, name, parameter)
        for module in modules
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]
    running: list[nn.Module] = []

    def show(chosen: dict[nn.Parameter, nn.Parameter]) -> None:
        for module, name, parameter in places:
            setattr(module, name, chosen.get(parameter, parameter))

    def enter(module: nn.Module, inputs: Any) -> None:
        if module in modules:
            if not running:
                show({})
            running.append(module)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in modules:
            running.pop()
            if not running:
                show(stand_ins)

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        show(stand_ins)
        yield
    finally:
        for handle in handles:
            handle.remove()
        show({})
