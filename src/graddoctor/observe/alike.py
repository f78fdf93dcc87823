"""Cheap signs of too much depth: samples that become alike, and gradients that neighbouring inputs do not share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe._guard import undisturbed
from graddoctor.observe._recorder import tensors_in
from graddoctor.observe._step import Writes, uncompiled

NEARBY = 0.1
"""Neighbouring inputs are so much of the way from one sample of the batch to the next."""

Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class AlikeReading:
    """What a module gives for the samples of a batch.

    Attributes
    ----------
    name
        Of the module.
    similarity
        Mean cosine between two samples: at 1 all samples are the same to whatever follows.
    rank
        Effective rank of the differences between samples, ``tr(G)² / tr(G²)`` of their Gram matrix: from 1 to the
        smaller of samples - 1 and features; ``nan`` where there are none.
    shared
        Mean cosine between the gradients at this module for an input and for one nearby: 1 for a smooth loss, 0 where
        gradients are shattered. ``nan`` where the network is given no floating tensor, or there is no gradient.
    """

    name: str
    similarity: float
    rank: float
    shared: float


def alike(model: nn.Module, loss: Loss, batch: Any, names: Sequence[str]) -> tuple[AlikeReading, ...]:
    """Look at what some modules give, with two forward and backward passes; nothing is left changed.

    Parameters
    ----------
    model
        The network, in the mode in which it trains.
    loss
        ``(model, batch) -> 0-d tensor``.
    batch
        One batch.
    names
        Modules that give one tensor with a batch axis in front; others are passed over.

    Returns
    -------
    In the order of ``names``.

    Notes
    -----
    Balduzzi et al. 2017 for gradients of neighbouring inputs, which in plain rectifier networks share less by half with
    each layer.
    """
    with undisturbed(model) as guard, uncompiled(), torch.inference_mode(mode=False), torch.enable_grad():
        guard.protect(tensor for _, tensor in tensors_in(batch))
        with Writes(guard):
            values, here = _pass(model, loss, batch, names, moved=False)
            _, there = _pass(model, loss, batch, names, moved=True)
    shared = {name: _cosine(here.get(name), there.get(name)) for name in names}
    return tuple(AlikeReading(name, *_apart(values[name]), shared[name]) for name in names if name in values)


def _pass(
    model: nn.Module, loss: Loss, batch: Any, names: Sequence[str], *, moved: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the modules give, and the gradients there; of inputs that are moved, none where nothing can be moved."""
    values: dict[str, Tensor] = {}
    with _noted(model, names, values), _nearby(model, moved=moved) as reached:
        result = loss(model, batch)
    known = [name for name, value in values.items() if value.requires_grad]
    if not known or not result.requires_grad or not reached():
        return values, {}
    found = torch.autograd.grad(result, [values[name] for name in known], allow_unused=True)
    return values, {name: gradient for name, gradient in zip(known, found, strict=True) if gradient is not None}


@contextmanager
def _noted(model: nn.Module, names: Sequence[str], values: dict[str, Tensor]) -> Iterator[None]:
    """Note what modules give at their first call, before anything works on it in place."""

    def noting(name: str) -> Callable[..., Tensor | None]:
        def hook(_: nn.Module, __: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or name in values:
                return None
            values[name] = output
            return output.clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(noting(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _nearby(model: nn.Module, *, moved: bool) -> Iterator[Callable[[], bool]]:
    """Hand the network inputs that are moved towards the next sample of the batch; tell whether it was given any."""
    seen: list[bool] = []

    def move(value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
        seen.append(floating)
        return value + NEARBY * (value.roll(1, 0) - value) if floating and moved else value

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(move, args)), {key: move(value) for key, value in kwargs.items()}

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield lambda: any(seen)
    finally:
        handle.remove()


def _apart(values: Tensor) -> tuple[float, float]:
    """Mean cosine between samples, and effective rank of their differences."""
    rows = _rows(values)
    samples = len(rows)
    units = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    cosine = float((units.sum(0).square().sum() - samples) / (samples * (samples - 1))) if samples > 1 else math.nan
    gram = (rows - rows.mean(0)) @ (rows - rows.mean(0)).mT
    size = float(gram.square().sum())
    return cosine, float(gram.trace()) ** 2 / size if size > 0 else math.nan


def _cosine(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None or one.shape != other.shape:
        return math.nan
    return float(torch.nn.functional.cosine_similarity(_rows(one), _rows(other), dim=1).nanmean())


def _rows(values: Tensor) -> Tensor:
    """One row for each sample, in float64."""
    return values.detach().double().reshape(len(values), -1)
