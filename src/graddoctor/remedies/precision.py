"""Train in more bits what was trained in too few, or so that few are enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit, edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.loss_scale import scaled_loss
from graddoctor.remedies.plain.master_weights import keep_master_weights, master_weights_loss
from graddoctor.remedies.plain.precision import (
    FLOAT32_CASTS,
    WiderCasts,
    autocast_loss,
    bfloat16_loss,
    float32_forward,
    float32_loss,
    widen_weights,
)
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.sixteen_bits import LOW, gradient_scale, low_types, same_first_loss, uses_low_precision
from graddoctor.terms import Cause
from graddoctor.train import build_model

__all__ = [
    "LOW",
    "bfloat16_autocast",
    "float32",
    "float32_throughout",
    "loss_scaled",
    "master_weights",
    "uses_low_precision",
]

_AUTOCAST_MOVES = "Autocast moves into the loss."
SOURCE = "Micikevicius et al. 2018"

NO_AUTOCAST = Edit("precision", note="Without autocast around the loss.")
FLOAT32_WEIGHTS = Edit("model", widen_weights, {}, "Weights in float32.")
FLOAT32_FORWARD = Edit("model", float32_forward, {}, "Casts by hand become float32 in the network.")
FLOAT32_LOSS = Edit("loss", float32_loss, {}, "Casts by hand and autocast become float32 in the loss.")
MASTER_WEIGHTS = (
    Edit("model", keep_master_weights, {}, "Weights are kept in float32 and cast in each forward pass."),
    Edit("loss", master_weights_loss),
)


def _float32_mode() -> AbstractContextManager[Any]:
    mode: AbstractContextManager[Any] = WiderCasts(FLOAT32_CASTS)
    return mode


def float32() -> Remedy:
    """Everything in float32: parameters, autocast, and the casts that the network makes itself.

    Casts on the way back are undone only within ``remedy.around``. What was rounded before it came here stays so.

    Source: Micikevicius et al. 2018 on what 16 bits cannot hold.
    """
    edits = (FLOAT32_WEIGHTS, FLOAT32_FORWARD, FLOAT32_LOSS, NO_AUTOCAST)
    return Remedy.written("float32 throughout", (Cause.PRECISION,), edits, source=SOURCE, around=_float32_mode)


def float32_throughout(facts: Facts) -> Remedy | None:
    """Compute the loss in float32, by the fewest changes; ``None`` where it is, or where only its gradient is not.

    What a custom backward pass casts is out of reach of a loss: see `loss_scaled`.
    """
    if not low_types(facts.recipe):
        return None
    for edits in _ways_to_float32(facts.recipe):
        if low_types(edited(facts.recipe, edits)) == set():
            cost = "as much memory again for what was held in 16 bits"
            return Remedy.written("float32 throughout", (Cause.PRECISION,), edits, source=SOURCE, cost=cost)
    return None


def _ways_to_float32(recipe: Recipe) -> Iterator[tuple[Edit, ...]]:
    autocast = () if recipe.precision is None else (NO_AUTOCAST,)
    model = build_model(recipe)
    narrow = any(tensor.dtype in LOW for tensor in (*model.parameters(), *model.buffers()))
    weights = (FLOAT32_WEIGHTS,) if narrow else ()
    yield (*autocast, *weights)
    yield (*autocast, *weights, *((FLOAT32_FORWARD,) if narrow else ()), FLOAT32_LOSS)


def bfloat16_autocast(facts: Facts) -> Remedy | None:
    """bfloat16 in place of float16, in autocast or in casts by hand; ``None`` where neither asks for float16.

    Source: Kalamkar et al. 2019.
    """
    if torch.float16 not in (low_types(facts.recipe) or ()):
        return None
    autocast: tuple[Edit, ...] = ()
    if facts.recipe.precision is not None:
        autocast = (Edit("loss", autocast_loss, {"dtype": torch.bfloat16}, _AUTOCAST_MOVES), NO_AUTOCAST)
    by_hand = Edit("loss", bfloat16_loss, {}, "Casts to float16 become bfloat16. Better write bfloat16 yourself.")
    for edits in (autocast, (*autocast, by_hand)):
        if edits and torch.float16 not in (low_types(edited(facts.recipe, edits)) or {torch.float16}):
            name = "bfloat16 in place of float16"
            return Remedy.written(name, (Cause.PRECISION,), edits, source="Kalamkar et al. 2019")
    return None


def master_weights(facts: Facts) -> Remedy | None:
    """Keep 16-bit weights in float32 and cast them in each forward pass.

    ``None`` where no trainable weight has 16 bits, or where the loss would not be the same to the last bit.

    Source: Micikevicius et al. 2018, section 3.1.
    """
    if not any(p.dtype in LOW and p.requires_grad for p in facts.model.parameters()):
        return None
    if not same_first_loss(facts.recipe, edited(facts.recipe, MASTER_WEIGHTS)):
        return None
    cost = "4 bytes more for each weight"
    return Remedy.written("float32 master weights", (Cause.PRECISION,), MASTER_WEIGHTS, source=SOURCE, cost=cost)


def loss_scaled(facts: Facts) -> Remedy | None:
    """Scale the gradient on its way through float16, and keep the loss's value.

    The scale is the power of two that suits the gradient of the first batches. Float16 weights are kept in float32, or
    else the gradient would be divided in float16 again. ``None`` where float16 holds the gradient as it is; bfloat16
    always does.

    Source: Micikevicius et al. 2018, section 3.2.
    """
    edits: tuple[Edit, ...] = ()
    if facts.recipe.precision is not None:
        edits = (Edit("loss", autocast_loss, {"dtype": facts.recipe.precision}, _AUTOCAST_MOVES), NO_AUTOCAST)
    if any(p.dtype in LOW for p in facts.model.parameters()):
        edits = (*MASTER_WEIGHTS, *edits)
    treated = edited(facts.recipe, edits)
    if edits and not same_first_loss(facts.recipe, treated):
        return None
    scale = gradient_scale(treated)
    if scale is None:
        return None
    note = f"The gradient is scaled by 2**{round(math.log2(scale))} on its way back."
    edits = (*edits, Edit("loss", scaled_loss, {"scale": scale}, note))
    return Remedy.written("gradient scaled", (Cause.PRECISION,), edits, source=SOURCE)
