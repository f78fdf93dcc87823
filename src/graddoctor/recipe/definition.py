"""A recipe: all that is needed to train a network, and nothing about what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

Batches = Callable[[], Iterable[Any]] | Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that is needed to train: immutable, so that a remedy is a function from one recipe to another.

    Parameters
    ----------
    model
        ``() -> nn.Module``: builds a new network at every call. A parameter named ``seed`` is given the run's.
    loss
        ``(model, batch) -> tensor``: a scalar that depends on the model's parameters.
    batches
        ``() -> iterable of batches``, called once a run and iterated anew each epoch; or a ``DataLoader`` itself.
        A batch may be a tensor, tuple, list, dict or dataclass.
    optimizer
        ``(model) -> torch.optim.Optimizer``.
    scheduler
        ``(optimizer)`` or ``(optimizer, steps)``, returning a learning-rate scheduler.
    clip
        ``(parameters) -> None``, called between backward and step.
    evaluate
        ``(model) -> float``, higher is better. Without it the training loss decides.
    epochs, accumulate
        Passes over the batches; micro-batches summed into one step.
    scheduler_every
        Whether the scheduler steps once a batch or once an epoch.
    precision
        dtype for autocast (``torch.bfloat16``, ``torch.float16``), or ``None`` for full precision.
    device
        Where model and batches are moved.
    name
        What reports call it.
    """

    model: Callable[..., nn.Module]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    batches: Batches
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    scheduler: Callable[..., Any] | None = None
    clip: Callable[[list[torch.Tensor]], Any] | None = None
    evaluate: Callable[[nn.Module], float] | None = None
    epochs: int = 10
    seed: int = 0
    accumulate: int = 1
    scheduler_every: Literal["batch", "epoch"] = "batch"
    precision: torch.dtype | None = None
    device: str | torch.device = "cpu"
    name: str = ""

    def with_(self, **changes: Any) -> Recipe:
        """Return the same recipe with some parts exchanged."""
        return replace(self, **changes)
