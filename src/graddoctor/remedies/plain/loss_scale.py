"""Scale the gradient of a loss on its way through 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def scaled_loss(model: nn.Module, batch: Any, original: Callable[..., Any], *, scale: float) -> Any:
    """Keep a loss's value, but send `scale` times its gradient back and divide at the parameters.

    In between, 16-bit gradients are large enough not to round to zero. A parameter's gradient that
    overflows all the same is dropped for that step.
    """
    for parameter in model.parameters():
        hooks = parameter._backward_hooks or {}  # noqa: SLF001 - copies of a parameter have none
        if parameter.requires_grad and UnscaleHook not in map(type, hooks.values()):
            parameter.register_hook(UnscaleHook(scale))  # type: ignore[no-untyped-call]
            for key in list(hooks)[:-1]:
                hooks[key] = hooks.pop(key)  # your own come after it
    return ScaleGradient.apply(original(model, batch), scale)  # type: ignore[no-untyped-call]


class ScaleGradient(torch.autograd.Function):
    """Hand a tensor on, and multiply its gradient."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, scale: float) -> torch.Tensor:
        """Keep the value."""
        ctx.scale = scale
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Multiply the gradient."""
        return gradients[0] * ctx.scale, None


class UnscaleHook:
    """Divide a gradient again; one that has overflowed becomes zero."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the loss itself."""
        return torch.where(gradient.isfinite().all(), gradient / self.scale, 0.0)
