"""What of a step is computed in 16 bits, and what of its gradient those cannot hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from graddoctor.nested import leaves
from graddoctor.randomness import kept_random_state, seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.plain.loss_scale import scaled_loss
from graddoctor.train import BatchSource, build_model, loss_of

LOW = frozenset({torch.float16, torch.bfloat16})

_BATCHES = 4
_LARGEST = 2.0**9
"""Where the largest 16-bit gradient is brought to: it may grow by 2**7 in training before float16 overflows."""

_TINY = 2.0**-14  # float16 loses bits below
_STRIDE, _FURTHEST, _TRIES = 2.0**12, 2.0**60, 12
_LOST = 0.01
"""Share of 16-bit gradient entries that must round to zero before a loss scale is worth its while."""


class LowSeen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what operations return in 16 bits while it is entered.

    Attributes
    ----------
    types
        Which types.
    entries, zeros
        How many numbers in float16, and how many of them are zero.
    largest
        The largest of them in magnitude; infinite where one is not finite.
    """

    def __init__(self, *, count: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.types: set[torch.dtype] = set()
        self.count = count
        self.entries, self.zeros, self.largest = 0, 0, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it returns."""
        del types
        result = func(*args, **(kwargs or {}))
        for _, tensor in leaves(result):
            if tensor.dtype in LOW:
                self.types.add(tensor.dtype)
                if self.count and tensor.dtype == torch.float16 and tensor.numel():
                    self._measure(tensor.detach().float())
        return result

    def _measure(self, tensor: torch.Tensor) -> None:
        self.entries += tensor.numel()
        self.zeros += int((tensor == 0).sum())
        largest = float(tensor.abs().max())
        self.largest = max(self.largest, largest if math.isfinite(largest) else math.inf)


def uses_low_precision(recipe: Recipe, model: nn.Module, batch: Any) -> bool:
    """Whether anything in a step is computed in 16 bits, on the way forth or back, by autocast or by hand."""
    mode: Any = LowSeen()
    with kept_random_state(), mode:
        loss = loss_of(recipe, model, batch)
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            torch.autograd.backward(loss.sum())
    model.zero_grad(set_to_none=True)
    return bool(mode.types)


def low_types(recipe: Recipe) -> set[torch.dtype] | None:
    """Which 16-bit types the loss of the first batch is computed in, its way back left out; ``None`` if it raises."""
    mode: Any = LowSeen()
    try:
        batch = BatchSource(recipe).first(1)[0]
        model = build_model(recipe)
        with seeded(recipe.seed), torch.enable_grad(), mode:
            loss_of(recipe, model, batch)
    except Exception:  # noqa: BLE001 - types that do not fit together: this change is not enough
        return None
    types: set[torch.dtype] = mode.types
    return types


def same_first_loss(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes begin with the same loss, to the last bit."""
    losses = []
    for recipe in (one, other):
        batch = BatchSource(recipe).first(1)[0]
        model = build_model(recipe)
        try:
            with seeded(recipe.seed), torch.enable_grad():
                losses.append(float(loss_of(recipe, model, batch).detach()))
        except Exception:  # noqa: BLE001 - such as weights that are held elsewhere too
            return False
    return losses[0] == losses[1]


@dataclass(frozen=True)
class _Gradient:
    """What the float16 part of a gradient is like under some loss scale."""

    entries: int
    zeros: int
    largest: float


def gradient_scale(recipe: Recipe) -> float | None:
    """Find the power of two that brings the float16 part of the gradient into its range.

    Returns
    -------
    The factor; ``None`` where nothing on the way back is in float16, where hardly anything of it rounds to zero or
    overflows, or where no factor helps: a gradient that is lost elsewhere.
    """
    batches = BatchSource(recipe).first(_BATCHES)
    given = _gradient(recipe, batches, 1.0)
    scale = 1.0
    for _ in range(_TRIES):
        found = _gradient(recipe, batches, scale)
        if not found.entries or not 1 / _FURTHEST < scale < _FURTHEST:
            return None
        if _LARGEST / 2 < found.largest <= _LARGEST:
            lost = (given.zeros - found.zeros) / found.entries
            return scale if lost > _LOST or math.isinf(given.largest) else None
        if math.isinf(found.largest):
            scale /= _STRIDE
        elif found.largest < _TINY / _STRIDE:
            scale *= _STRIDE
        else:
            scale *= 2.0 ** math.floor(math.log2(_LARGEST / found.largest))
    return None


def _gradient(recipe: Recipe, batches: list[Any], scale: float) -> _Gradient:
    mode: Any = LowSeen(count=True)
    scaled = Edit("loss", scaled_loss, {"scale": scale})(recipe)
    for batch in batches:
        with seeded(recipe.seed):
            loss = loss_of(scaled, build_model(recipe), batch)
            with mode:
                torch.autograd.backward(loss)
    return _Gradient(mode.entries, mode.zeros, mode.largest)
