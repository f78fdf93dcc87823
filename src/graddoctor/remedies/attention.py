"""Attention whose logits are too large: queries and keys scaled at the start, or normalised for good."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.attention import add_qk_norms
from graddoctor.remedies.queries import Makers, looks, makers
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import within
from graddoctor.remedies.starts import Plan, grouped, started
from graddoctor.terms import Cause
from graddoctor.train import build_model

LOUD = 2.0
"""Standard deviation of the logits from which on attention starts with its mind made up: one key takes most."""

_ROUNDS = 3  # what stands in front of an attention may change with those before it
_CONV1D = "Conv1D"  # transformers' own name for a linear layer with its weight transposed


def quiet_logits(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Scale the projections of queries and keys until the logits start with a standard deviation of one.

    A weight that holds queries, keys and values together is scaled as a whole. ``None`` where no attention starts with
    logits that spread by more than 2, or where its weights cannot be told.

    Source: Vaswani et al. 2017 divide by √width so that logits start with variance one.
    """
    net = build_model(facts.recipe)
    chosen = {name for name, _ in net.named_parameters() if only is None or any(within(name, part) for part in only)}
    plan: Plan = {
        name: ("scaled", factor) for name, factor in quiet_factors(facts.recipe, net, facts.batch, chosen).items()
    }
    return started("attention logits at unit scale", grouped(plan), "Vaswani et al. 2017", only)


@torch.no_grad()
def quiet_factors(recipe: Recipe, net: nn.Module, batch: Any, chosen: Collection[str]) -> dict[str, float]:
    """Scale those of the chosen weights that make queries and keys until no attention is loud; return the factors."""
    factors: dict[str, float] = {}
    parameters = dict(net.named_parameters())
    known: dict[str, Makers] = {}
    for _ in range(_ROUNDS):
        loud = [reading for reading in looks(recipe, net, batch) if reading.logit_std > LOUD]
        for one in makers(recipe, net, batch, [reading for reading in loud if reading.name not in known]):
            known[one.reading.name] = one
        for reading in loud:
            orders = known[reading.name].orders if reading.name in known else {}
            mine = {name: order for name, order in orders.items() if name in chosen}
            factor = reading.logit_std ** (-1 / max(sum(mine.values()), 1))
            for name in mine:
                parameters[name].mul_(factor)
                factors[name] = factors.get(name, 1.0) * factor
        if not loud:
            break
    return factors


def qk_normalised(facts: Facts) -> Remedy | None:
    """Normalise queries and keys, each head by itself: a logit cannot exceed the root of the head's width.

    ``None`` where logits neither start loud nor are known to grow (no module of it is suspected), where queries and
    keys are not made by linear layers, and where they are normalised already.

    Source: Henry et al. 2020; Dehghani et al. 2023.
    """
    net = build_model(facts.recipe)
    readings = looks(facts.recipe, net, facts.batch)
    asked = [r for r in readings if r.logit_std > LOUD or any(within(name, r.module) for name in facts.suspects)]
    edits = _norms(net, makers(facts.recipe, net, facts.batch, asked))
    if not edits or not _bounded(facts, edits):
        return None
    names = tuple(name for edit in edits for name in edit.arguments["names"])
    return Remedy.written(
        "queries and keys normalised",
        (Cause.NORMALIZATION,),
        edits,
        source="Henry et al. 2020; Dehghani et al. 2023",
        modules=names,
        cost="a gain for each feature of a head, a pass over queries and keys",
    )


def _norms(net: nn.Module, found: list[Makers]) -> list[Edit]:
    groups: dict[tuple[int, bool], list[str]] = {}
    for one in found:
        heads = one.reading.heads
        layers = {name.rpartition(".")[0]: order for name, order in one.orders.items()}
        widths = {name: _outputs(net.get_submodule(name)) for name in layers}
        packed = len(layers) == 1 and set(layers.values()) == {2}
        if not (packed or (len(layers) == 2 and set(layers.values()) == {1})) or not all(widths.values()):  # noqa: PLR2004
            continue
        width = max(widths.values()) // (3 * heads if packed else heads)  # of few heads for keys the queries' count
        if all(size % width == 0 for size in widths.values()):
            groups.setdefault((width, packed), []).extend(layers)
    return [
        Edit("model", add_qk_norms, {"names": tuple(names), "head_width": width} | ({"packed": True} if packed else {}))
        for (width, packed), names in groups.items()
    ]


def _outputs(layer: nn.Module) -> int:
    """Width of what a linear layer gives; 0 for what is none, or has a norm already."""
    if hasattr(layer, "norm"):
        return 0
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return int(layer.nf) if type(layer).__name__ == _CONV1D and isinstance(layer.nf, int) else 0


def _bounded(facts: Facts, edits: list[Edit]) -> bool:
    """Whether the logits of the treated network keep to the bound, tried on the first batch."""
    treated = Remedy.written("", (Cause.NORMALIZATION,), edits)(facts.recipe)
    width = max(edit.arguments["head_width"] for edit in edits)
    before, after = (looks(one, build_model(one), facts.batch) for one in (facts.recipe, treated))
    return len(before) == len(after) and max(r.logit_max for r in after) <= 1.01 * width  # without 1/√width: width
