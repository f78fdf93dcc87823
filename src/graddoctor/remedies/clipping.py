"""Lift a clip that swallows the gradient, or clip one that explodes."""

from __future__ import annotations

from functools import partial

import torch

from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


def no_clipping() -> Remedy:
    """Train without the recipe's clip."""
    return Remedy("clipping lifted", (Cause.CLIPPING,), lambda recipe: recipe.with_(clip=None))


def clipped(max_norm: float) -> Remedy:
    """Clip the total norm, in place of the recipe's own clip.

    Source: Pascanu, Mikolov and Bengio 2013.
    """

    def change(recipe: Recipe) -> Recipe:
        return recipe.with_(clip=partial(torch.nn.utils.clip_grad_norm_, max_norm=max_norm))

    return Remedy(f"clipped at norm {max_norm:g}", (Cause.CLIPPING,), change, "Pascanu et al. 2013")
