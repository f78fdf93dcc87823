"""Let the signal pass by layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn


def add_skips(
    model: nn.Module,
    spans: Iterable[tuple[str, str]],
    scale: float = 1.0,
    projections: Mapping[str, tuple[int, ...]] | None = None,
    *,
    learned: bool = False,
) -> nn.Module:
    """Add the output of one module to that of a later one: ``y = x + scale * branch(x)``.

    The modules stand in the order in which they run. A `learned` scale is a new parameter
    `skip_scale` of the later one. `projections` has, for later modules of another shape, inputs,
    outputs and strides of the map without a bias that becomes their submodule `skip_projection`.
    """
    for first, last in spans:
        start, end = model.get_submodule(first), model.get_submodule(last)
        near = (p for m in (end, start, model) for p in m.parameters() if p.is_floating_point())
        like = next(near, torch.empty(0))
        if learned:
            start_value = torch.full((1,), scale, device=like.device, dtype=like.dtype)
            end.register_parameter("skip_scale", nn.Parameter(start_value))
        if projections and last in projections:
            projection = make_projection(*projections[last]).to(like.device, like.dtype)
            end.add_module("skip_projection", projection.train(end.training))
        skip = Skip(scale)
        start.register_forward_hook(skip.keep)
        end.register_forward_hook(skip.add)
    return model


def make_projection(inputs: int, outputs: int, *stride: int) -> nn.Module:
    """Make a linear map, or with strides a convolution of size one, that keeps lengths."""
    kinds: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with torch.random.fork_rng(devices=[]):  # what is drawn later is drawn as before
        if stride:
            projection: nn.Module = kinds[len(stride) - 1](inputs, outputs, 1, stride, bias=False)
        else:
            projection = nn.Linear(inputs, outputs, bias=False)
        for weight in projection.parameters():
            nn.init.orthogonal_(weight)
    return projection


class Skip:
    """Carries an output past some modules, and adds it to another."""

    kept: torch.Tensor | None = None

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def keep(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        """Keep a module's output, as it is before anything works on it in place."""
        self.kept = output.clone()

    def add(self, module: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        """Add what was kept to the scaled output of a module."""
        kept, self.kept = self.kept, None
        if kept is None:
            return output
        project = getattr(module, "skip_projection", None)
        past: torch.Tensor = kept if project is None else project(kept)
        return past + getattr(module, "skip_scale", self.scale) * output

    def __getstate__(self) -> dict[str, float]:
        return {"scale": self.scale}
