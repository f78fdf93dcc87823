"""Which forwards `torch.fx` can write down without changing what they do."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import nn

from graddoctor.randomness import kept_random_state
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import tensors_in
from graddoctor.remedies.plain.activations import swap_calls
from graddoctor.train import build_model, loss_of


def rewritable(facts: Facts, owners: Collection[str]) -> frozenset[str]:
    """Pick the modules whose forward, rewritten by `torch.fx` as it is, does the same to the last bit.

    A trace holds on to what a forward found when it was traced: the mode, drawn numbers, counters, switched-off
    gradients. So losses and gradients of the rewritten network are compared with those of the given one, in training
    and in evaluation mode, and a forward that draws from random state or changes its own module is not rewritten.
    """
    unknown = [owner for owner in owners if owner not in facts.rewritable]
    if unknown:
        model = build_model(facts.recipe)
        steady = [owner for owner in unknown if _traces(model, owner)]
        if steady and not _same(facts, steady):
            steady = [owner for owner in steady if _same(facts, [owner])]
        facts.rewritable.update({owner: owner in steady for owner in unknown})
    return frozenset(owner for owner in owners if facts.rewritable[owner])


def _traces(model: nn.Module, owner: str) -> bool:
    """Whether a forward can be traced, and neither draws nor keeps anything meanwhile."""
    module = model.get_submodule(owner)
    with kept_random_state():
        before = _drawn(), _kept(module)
        try:
            swap_calls(model, {owner: ()}, None)
        except Exception:  # noqa: BLE001 - user code meets stand-ins for tensors: anything may be raised
            return False
        return before == (_drawn(), _kept(module))


def _drawn() -> tuple[Any, ...]:
    numpy = str(np.random.get_state(legacy=False))  # noqa: NPY002 - users draw from the global generator
    return random.getstate(), numpy, torch.get_rng_state().numpy().tobytes()


def _kept(module: nn.Module) -> dict[str, Any]:
    """What a module holds beside parameters and submodules: its settings, and the sizes of its collections."""
    kept: dict[str, Any] = {}
    for key, value in vars(module).items():
        if isinstance(value, (list, dict, set)):
            kept[key] = len(value)
        elif key != "forward":
            kept[key] = value if isinstance(value, (int, float, str, bool, type(None))) else type(value)
    return kept


def _same(facts: Facts, owners: list[str]) -> bool:
    given, traced = build_model(facts.recipe), build_model(facts.recipe)
    swap_calls(traced, dict.fromkeys(owners, ()), None)
    try:
        return _equal(_behaviour(facts, given), _behaviour(facts, traced))
    except Exception:  # noqa: BLE001 - written down, it may be called in a way that it was not traced for
        return False


def _behaviour(facts: Facts, model: nn.Module) -> list[torch.Tensor]:
    """Loss and gradients of the first batch, the buffers afterwards, and what it gives in evaluation mode."""
    inputs: list[Any] = []
    handle = model.register_forward_pre_hook(lambda _, args, kwargs: inputs.append((args, kwargs)), with_kwargs=True)
    with kept_random_state():
        loss = loss_of(facts.recipe, model, facts.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        handle.remove()
        model.eval()
        with torch.no_grad():
            outputs = [tensor for args, kwargs in inputs for tensor in tensors_in(model(*args, **kwargs))]
    absent = torch.tensor(torch.nan)
    gradients = [absent if p.grad is None else p.grad for p in model.parameters()]
    return [loss.detach(), *gradients, *model.buffers(), *outputs]


def _equal(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    return len(these) == len(those) and all(
        a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        for a, b in zip(these, those, strict=True)
    )
