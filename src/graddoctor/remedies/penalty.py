"""Take a penalty on the weights out of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graddoctor.nested import mapped
from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import wrap_forward
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import network_of


class _Replay:
    """Runs a forward as usual and, when told to, answers with the outputs that it gave last, cut off from the graph."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.replaying = False

    def __call__(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.replaying:
            return self.outputs.pop(0)
        output = forward(*args, **kwargs)
        self.outputs.append(mapped(torch.Tensor.detach, output))
        return output


def no_penalty() -> Remedy:
    """Train without the part of the loss that looks at parameters alone, such as L2 or L1 written into it.

    That part is what remains when the outputs are held fixed. Its gradient is subtracted, and its value too, up to the
    value that it has for weights of zero (where that is finite).
    """

    def change(recipe: Recipe) -> Recipe:
        build, loss = recipe.model, recipe.loss

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed)
            net.__dict__["_replay"] = replay = _Replay()
            return wrap_forward(net, replay)

        def unpenalised(net: nn.Module, batch: Any) -> torch.Tensor:
            replay: _Replay = net.__dict__["_replay"]
            replay.outputs = []
            whole = loss(net, batch)
            if not net.training or not whole.requires_grad:
                return whole
            answers = replay.outputs
            replay.replaying = True
            try:
                with kept_random_state():
                    replay.outputs = list(answers)
                    fixed = loss(net, batch)
                    replay.outputs = list(answers)
                    bare = _at_zero(net, lambda: loss(net, batch))
            finally:
                replay.replaying = False
            return whole - fixed + (bare if bool(bare.isfinite()) else fixed.detach())

        return recipe.with_(model=model, loss=unpenalised)

    return Remedy("no penalty on the weights in the loss", (Cause.WEIGHT_DECAY,), change)


def _at_zero(net: nn.Module, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Compute a loss as if all parameters were zero; swapping ``.data`` leaves the graph of the step untouched."""
    kept = [(p, p.data) for p in net.parameters()]
    try:
        for parameter, value in kept:
            parameter.data = torch.zeros_like(value)
        with torch.no_grad():
            return loss().detach()
    finally:
        for parameter, value in kept:
            parameter.data = value
