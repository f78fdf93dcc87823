"""Ways to spoil the start of a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.testing._nets import fitted, mlp


def deep(hidden: int, act: Callable[[], nn.Module] = nn.ReLU, **options: object) -> nn.Sequential:
    """Build an MLP of 64 inputs, so many hidden layers of 64, and 10 outputs."""
    return mlp((64, *(64,) * hidden, 10), act, **options)  # type: ignore[arg-type]


def wide(hidden: int, kind: str = "relu") -> nn.Module:
    """Build the same with ReLU or tanh and the start that fits it."""
    return fitted(deep(hidden, nn.ReLU if kind == "relu" else nn.Tanh), kind)


def at(model: nn.Module, name: str, change: Callable[[torch.Tensor], object], *, bias: bool = False) -> nn.Module:
    """Change the weight, or the bias, of one layer in place."""
    layer = model.get_submodule(name)
    with torch.no_grad():
        change(layer.bias if bias else layer.weight)  # type: ignore[arg-type]
    return model


def everywhere(model: nn.Module, change: Callable[[torch.Tensor], object], *, bias: bool = False) -> nn.Module:
    """Change the weights, or the biases, of all layers in place, by ``model.apply``."""

    def visit(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            with torch.no_grad():
                change(module.bias if bias else module.weight)

    return model.apply(visit)


def scaled(factor: float) -> Callable[[torch.Tensor], object]:
    """Return the change that multiplies by a factor."""
    return lambda weight: weight.mul_(factor)
