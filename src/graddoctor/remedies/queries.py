"""Which weights make the logits of an attention, found by halving each and looking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graddoctor.observe.attention import AttentionReading
from graddoctor.observe.probe import attentions
from graddoctor.recipe import Recipe
from graddoctor.remedies.slots import within
from graddoctor.remedies.survey import survey
from graddoctor.train import loss_of

_BOTH = 2  # factors that make a logit: a query and a key
_NEAR = 0.2  # an exponent is told from its neighbours by less than a half


@dataclass(frozen=True)
class Makers:
    """The weights of one attention's logits: how often each stands in them as a factor.

    Attributes
    ----------
    reading
        The attention.
    orders
        1 for a weight of queries or of keys, 2 for one that holds both.
    """

    reading: AttentionReading
    orders: dict[str, int]


def looks(recipe: Recipe, net: nn.Module, batch: Any) -> tuple[AttentionReading, ...]:
    """Read every attention of a network, on a batch of its recipe."""
    return attentions(net, lambda model, given: loss_of(recipe, model, given), batch)


def makers(recipe: Recipe, net: nn.Module, batch: Any, readings: Sequence[AttentionReading]) -> list[Makers]:
    """Find the weights of queries and keys of some attentions; those where they cannot be told are left out."""
    if not readings:
        return []
    used = list(survey(recipe, net, batch).weights)
    found = (Makers(reading, _orders(recipe, net, batch, reading, used)) for reading in readings)
    return [one for one in found if one.orders]


def _orders(
    recipe: Recipe, net: nn.Module, batch: Any, reading: AttentionReading, used: Sequence[str]
) -> dict[str, int]:
    """Look for the last weights before the logits, in the module that attends, or else in the one around it."""
    parameters = dict(net.named_parameters())
    for scope in _scopes(reading.module):
        orders: dict[str, int] = {}
        for name in reversed(used):
            if sum(orders.values()) < _BOTH and within(name, scope) and parameters[name].requires_grad:
                order = _order(recipe, net, batch, parameters[name], reading)
                orders |= {name: order} if order else {}
        if orders:
            return dict(reversed(orders.items()))
    return {}


def _scopes(module: str) -> Iterator[str]:
    if module:
        yield module
    parent = module.rpartition(".")[0]
    if parent or not module:
        yield parent


@torch.no_grad()
def _order(recipe: Recipe, net: nn.Module, batch: Any, weight: torch.Tensor, reading: AttentionReading) -> int:
    """By which power of a weight the spread of the logits goes."""
    kept = weight.clone()
    try:
        weight.mul_(0.5)
        now = next((one for one in looks(recipe, net, batch) if one.name == reading.name), None)
    finally:
        weight.copy_(kept)
    if now is None or not (now.logit_std > 0 and reading.logit_std > 0):
        return 0
    power = math.log2(reading.logit_std / now.logit_std)
    return round(power) if abs(power - round(power)) < _NEAR and round(power) in {1, 2} else 0
