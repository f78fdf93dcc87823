"""Gradients that go back a bounded number of time steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def truncate_backpropagation(model: nn.Module, names: Iterable[str], every: int) -> nn.Module:
    """Let no gradient pass from one stretch of so many time steps to the one before it.

    The named recurrent layers, of one direction, run over a sequence stretch by stretch, and the
    state between them is detached: outputs stay as they are, and what happened in an earlier
    stretch is remembered but not learned from.
    """
    for name in names:
        module = model.get_submodule(name)
        module.forward = TruncatedForward(module, every)
    return model


class TruncatedForward:
    """A recurrent layer's forward, stretch by stretch."""

    def __init__(self, module: Any, every: int) -> None:
        self.module, self.forward, self.every = module, module.forward, every

    def __call__(self, input: torch.Tensor, hx: Any = None) -> Any:  # noqa: A002
        """Run over a sequence."""
        axis, outputs = int(input.ndim == 3 and self.module.batch_first), []
        for number, stretch in enumerate(torch.split(input, self.every, axis)):
            output, hx = self.forward(stretch, detached(hx) if number else hx)
            outputs.append(output)
        return torch.cat(outputs, axis), hx


def detached(state: Any) -> Any:
    """Detach a state, or each of two."""
    return tuple(map(detached, state)) if isinstance(state, tuple) else state.detach()
