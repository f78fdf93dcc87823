"""Standardise what a network is given and what it is compared with, at inference too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import torch
from torch import nn


def standardise_input(
    model: nn.Module,
    *,
    mean: float | list[float],
    std: float | list[float],
    position: int | None = 0,
    keyword: str | None = None,
    trailing_axes: int = 0,
    missing: float | None = None,
    nan_is_missing: bool = False,
    prefix: str = "input",
) -> nn.Module:
    """Give the network ``(x - mean) / std`` in place of one of its inputs, in training and after.

    Mean and deviation are buffers: saved with the weights and moved with the network. The input is
    found by its position, or by its keyword. Features are its last axis, or the one before
    `trailing_axes` others: 2 for images. A number that stands for a missing value becomes the mean.
    """
    for name, value in (("mean", mean), ("std", std)):
        statistic = torch.tensor(value)
        if statistic.ndim:
            statistic = statistic.reshape(-1, *[1] * trailing_axes)
        model.register_buffer(f"{prefix}_{name}", statistic)
    hook = partial(
        standardise_hook,
        position=position,
        keyword=keyword,
        missing=missing,
        nan_is_missing=nan_is_missing,
        prefix=prefix,
    )
    model.register_forward_pre_hook(hook, with_kwargs=True)
    return model


def standardise_hook(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    position: int | None,
    keyword: str | None,
    missing: float | None,
    nan_is_missing: bool,
    prefix: str,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Exchange one argument for the standardised one."""
    mean, std = getattr(module, f"{prefix}_mean"), getattr(module, f"{prefix}_std")

    def standardised(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        scaled = ((x - mean) / std).to(x.dtype)
        if missing is not None:
            scaled = torch.where(x == missing, 0.0, scaled)
        return torch.where(x.isnan(), 0.0, scaled) if nan_is_missing else scaled

    if position is not None and position < len(args):
        args = (*args[:position], standardised(args[position]), *args[position + 1 :])
    elif keyword in kwargs:
        kwargs = {**kwargs, keyword: standardised(kwargs[keyword])}
    return args, kwargs


def answer_in_units(model: nn.Module, *, mean: float, std: float) -> nn.Module:
    """Let the network learn a target of mean 0 and deviation 1, and answer in its own units.

    Its output is multiplied by `std` and shifted by `mean`, except inside `standardised_loss`.
    """
    model.register_buffer("target_mean", torch.tensor(mean))
    model.register_buffer("target_std", torch.tensor(std))
    model.register_forward_hook(units_hook)
    return model


def units_hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """Bring an output back to the target's units."""
    if getattr(module, "answers_standardised", False):
        return output
    answer: torch.Tensor = output * module.target_std + module.target_mean
    return answer.to(output.dtype)


def standardised_loss(
    model: Any, batch: Any, original: Callable[..., Any], *, target: tuple[Any, ...]
) -> Any:
    """Compare the bare output with the standardised target, which these keys lead to in a batch."""

    def standardised(y: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (y - model.target_mean) / model.target_std
        return scaled.to(y.dtype)

    model.answers_standardised = True
    try:
        return original(model, with_entry(batch, target, standardised))
    finally:
        model.answers_standardised = False


def with_entry(batch: Any, keys: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Copy nested tuples, lists, dicts, named tuples and dataclasses with one entry changed."""
    if not keys:
        return change(batch)
    key, rest = keys[0], keys[1:]
    if isinstance(batch, (tuple, list)):
        items = [with_entry(x, rest, change) if k == key else x for k, x in enumerate(batch)]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    twin = copy.copy(batch)
    if is_dataclass(batch):
        object.__setattr__(twin, key, with_entry(getattr(batch, key), rest, change))
    else:
        twin[key] = with_entry(batch[key], rest, change)
    return twin
