"""A recipe: all that is needed to train a network, and nothing about what is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from graddoctor.errors import RecipeError

Batches = Callable[[], Iterable[Any]] | Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that is needed to train: immutable, so that a remedy is a function from one recipe to another.

    Parameters
    ----------
    model
        ``() -> nn.Module``: builds a new network at every call. A parameter named ``seed`` is given the run's. A
        network itself will do too: every run trains a copy of it, and it stays as it is.
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

    Raises
    ------
    RecipeError
        A part that should be a function is none, or a number is below 1.
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

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            object.__setattr__(self, "model", _Copies(self.model))
        for part, example in _FUNCTIONS.items():
            value = getattr(self, part)
            if not callable(value) and not (value is None and part in _MAY_MISS):
                msg = f"{part}: expected a function, as in  {part}={example}, got {_kind(value)}"
                raise RecipeError(msg)
        for part in ("epochs", "accumulate"):
            value = getattr(self, part)
            if not isinstance(value, int) or value < 1:
                msg = f"{part}: expected a whole number from 1 on, got {value!r}"
                raise RecipeError(msg)
        if self.scheduler_every not in {"batch", "epoch"}:
            msg = f"scheduler_every: expected 'batch' or 'epoch', got {self.scheduler_every!r}"
            raise RecipeError(msg)

    def with_(self, **changes: Any) -> Recipe:
        """Return the same recipe with some parts exchanged."""
        return replace(self, **changes)


_FUNCTIONS = {
    "model": "lambda: Net()",
    "loss": "lambda model, batch: criterion(model(batch[0]), batch[1])",
    "optimizer": "lambda model: torch.optim.SGD(model.parameters(), lr=0.1)",
    "scheduler": "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 100)",
    "clip": "lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.0)",
    "evaluate": "lambda model: accuracy(model)",
}
_MAY_MISS = frozenset({"scheduler", "clip", "evaluate"})


class _Copies:
    """Builds copies of a network that was given as it is."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self) -> nn.Module:
        """Return a copy of the network.

        Raises
        ------
        RecipeError
            It cannot be copied.
        """
        try:
            return copy.deepcopy(self.network)
        except Exception as error:
            why = (str(error).splitlines() or [""])[0]
            msg = (
                f"model is a {type(self.network).__name__} that cannot be copied ({type(error).__name__}: {why}): "
                "give a function that builds it, as in  model=lambda: Net()"
            )
            raise RecipeError(msg) from error


def _kind(value: Any) -> str:
    what = type(value).__name__
    return f"a {what} object" if isinstance(value, (nn.Module, torch.optim.Optimizer)) else f"{what} {value!r:.40}"
