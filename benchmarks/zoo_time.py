"""How far a gradient comes through time, measured with autograd alone, without any diagnosis tool.

The gradient of the loss at what a recurrent network reads at the first step, against that at the last step (norms).
Where tokens are embedded, what is read is the embedding; where sequences are padded, a row's last step is the last
that has a gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graddoctor.recipe import Recipe


class _Embedded(TorchFunctionMode):
    """Keeps what the first embedding gave."""

    def __init__(self) -> None:
        super().__init__()
        self.first: torch.Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is functional.embedding and self.first is None:
            self.first = result
        return result


def steps_gradient(recipe: Recipe, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the gradient at what is read, ``(batch, time, features)``, in double precision."""
    read = batch[0].clone()
    embedded = _Embedded()
    if read.is_floating_point():
        read.requires_grad_(True)
    with embedded:
        loss = recipe.loss(model, (read, *batch[1:]))
    source = read if read.is_floating_point() else embedded.first
    assert source is not None
    return torch.autograd.grad(loss, source)[0].double()


def first_against_last(recipe: Recipe, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> float:
    """Return the ratio of the norms at the first step and at the last; 0 if nothing comes to the first."""
    gradient = steps_gradient(recipe, model, batch)
    size = gradient.flatten(2).norm(dim=2)
    places = torch.arange(size.shape[1]).expand_as(size)
    final = torch.where(size > 0, places, torch.zeros_like(places)).amax(1)
    first, last = size[:, 0].norm(), size.gather(1, final[:, None]).norm()
    return float(first / last) if float(last) > 0 else math.nan


def decades(ratio: float | None) -> float | None:
    """Return the decimal logarithm, or ``None`` where there is none."""
    return round(math.log10(ratio), 1) if ratio is not None and 0 < ratio < math.inf else None
