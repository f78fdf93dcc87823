"""A fingerprint of a recipe: what two that give the same trainings have in common, as far as it can be read off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graddoctor.build import build_scheduler
from graddoctor.prove.checksum import checksum, checksum_of
from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.train import BatchSource, build_model, build_optimizer, loss_of

Fingerprint = dict[str, str | int | list[str]]

_TURNS = 1000  # a schedule is built for so many steps, to see what it is
_DIGITS = 6  # of the first loss: another processor rounds the last ones differently


def fingerprint(recipe: Recipe, threads: int = 1) -> Fingerprint:
    """Read off a recipe what its trainings depend on, causes before what follows from them; JSON can hold it.

    Functions cannot be compared. The first loss, on the first batch and the weights at the start, stands for what a
    forward pass and a loss compute; of a clip it is only known whether there is one, of a schedule which class it is.
    """
    batch = BatchSource(recipe).first(1)
    model = build_model(recipe)
    optimizer = build_optimizer(recipe, model)
    tensors = list(model.state_dict(keep_vars=True).items())
    return {
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "accumulate": recipe.accumulate,
        "precision": str(recipe.precision),
        "device": torch.device(recipe.device).type,
        "threads": threads,
        "torch": torch.__version__,
        "optimizer": _options(optimizer),
        "scheduler": f"{_schedule(recipe, optimizer)} every {recipe.scheduler_every}",
        "clip": "none" if recipe.clip is None else "present",
        "evaluate": "none" if recipe.evaluate is None else "present",
        "modules": [f"{name or 'model'}: {type(module).__qualname__}" for name, module in model.named_modules()],
        "tensors": [f"{name}: {tuple(t.shape)} {t.dtype}" for name, t in tensors if isinstance(t, torch.Tensor)],
        "initial weights": checksum(t for _, t in tensors if isinstance(t, torch.Tensor)),
        "first batch": checksum_of(batch),
        "first loss": _first_loss(recipe, model, batch),
    }


def difference(expected: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """Say what the first difference between two fingerprints is, and which other parts differ; ``""``: none does."""
    names = [name for name in dict.fromkeys((*expected, *got)) if expected.get(name) != got.get(name)]
    if not names:
        return ""
    one, other = _first(expected.get(names[0]), got.get(names[0]))
    more = f" ({', '.join(names[1:])} differ too)" if names[1:] else ""
    return f"{names[0]}: expected {one}, got {other}{more}"


def _first(expected: Any, got: Any) -> tuple[str, str]:
    """The two values, or of two lists the first entries that differ."""
    if not isinstance(expected, list) or not isinstance(got, list):
        return str(expected), str(got)
    at = next((k for k, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    one, other = (values[at] if at < len(values) else "nothing more" for values in (expected, got))
    return str(one), str(other)


def _options(optimizer: torch.optim.Optimizer) -> list[str]:
    lines = [type(optimizer).__qualname__]
    for number, group in enumerate(optimizer.param_groups):
        options = {name: value for name, value in group.items() if name != "params"}
        lines.append(f"group {number}: {len(group['params'])} tensors")
        lines += [f"group {number}: {name} {value!r}" for name, value in sorted(options.items())]
    return lines


def _schedule(recipe: Recipe, optimizer: torch.optim.Optimizer) -> str:
    try:
        scheduler = build_scheduler(recipe, optimizer, _TURNS)
    except Exception as error:  # noqa: BLE001 - one that counts its steps may refuse so many
        return f"one that raises {type(error).__name__}"
    return "none" if scheduler is None else type(scheduler).__qualname__


def _first_loss(recipe: Recipe, model: nn.Module, batch: list[Any]) -> str:
    try:
        with seeded(recipe.seed), torch.enable_grad():  # losses may want gradients of their own
            value = float(loss_of(recipe, model, batch[0]).detach())
    except Exception as error:  # noqa: BLE001 - the trials will say so; here it only has to be the same again
        return f"raises {type(error).__name__}"
    return f"{value:.{_DIGITS}g}" if math.isfinite(value) else str(value)
