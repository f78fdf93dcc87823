"""Take a penalty on the weights out of the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit, edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.penalty import unpenalised_loss, weights_hidden
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of

_NAME = "no penalty on the weights in the loss"
_SAME = 1e-4


def no_penalty() -> Remedy:
    """Train without the part of the loss that looks at parameters alone, such as L2 or L1 written into it.

    That part is what the loss reads of the weights outside of the network's own forward. Its gradient goes, and its
    value too, up to the value that it has for weights of zero (where that is finite).
    """
    return Remedy(_NAME, (Cause.WEIGHT_DECAY,), lambda recipe: edited(recipe, _edits(recipe)))


def unpenalised(facts: Facts) -> Remedy | None:
    """Train without the loss's penalty on the weights; ``None`` where it has none.

    A loss that uses a weight together with a batch, such as a shared embedding, has no penalty on it.
    """
    if not _penalises(facts.recipe):
        return None
    return Remedy.written(_NAME, (Cause.WEIGHT_DECAY,), _edits(facts.recipe))


def _edits(recipe: Recipe) -> list[Edit]:
    note = "What the loss reads of the weights themselves is zero to it."
    plain = Edit("loss", unpenalised_loss, {}, note)
    try:
        finite = bool(_first_loss(plain(recipe)).isfinite())
    except Exception:  # noqa: BLE001 - a loss that raises on weights of zero is shown their values
        finite = False
    if finite:
        return [plain]
    return [Edit("loss", unpenalised_loss, {"keep_value": True}, "The penalty stays in the value of the loss.")]


def _first_loss(recipe: Recipe) -> torch.Tensor:
    batch = BatchSource(recipe).first(1)[0]
    with seeded(recipe.seed), torch.enable_grad():
        return loss_of(recipe, build_model(recipe), batch).detach()


def _penalises(recipe: Recipe) -> bool:
    """Whether the loss has a gradient for the weights outside of forward, and the same one for every batch."""
    batches = BatchSource(recipe).first(2)
    slopes = [_slopes_outside(recipe, batch) for batch in batches]
    return any(float(slope.norm()) > 0 for slope in slopes[0]) and all(
        torch.allclose(one, other, rtol=_SAME, atol=_SAME * float(one.abs().max()))
        for one, other in zip(slopes[0], slopes[-1], strict=True)
    )


def _slopes_outside(recipe: Recipe, batch: Any) -> list[torch.Tensor]:
    model = build_model(recipe)
    stand_ins = {p: nn.Parameter(p.detach().clone(), p.requires_grad) for p in model.parameters()}
    asked = [p for p in stand_ins.values() if p.requires_grad]
    with seeded(recipe.seed), torch.enable_grad(), weights_hidden(model, stand_ins):
        loss = loss_of(recipe, model, batch)
        if not loss.requires_grad:
            return [torch.zeros(1)]
        slopes = torch.autograd.grad(loss, asked, allow_unused=True)
    return [torch.zeros(1) if slope is None else slope for slope in slopes]
