"""What is known of a network before a remedy is prescribed for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.anatomy import Anatomy, anatomy
from graddoctor.remedies.blocks import Block, blocks_of
from graddoctor.remedies.recurrent import Carrier, carriers
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.survey import Survey, survey
from graddoctor.train import BatchSource, build_model, build_optimizer


@dataclass(frozen=True)
class Facts:
    """A recipe, and what its plain run showed.

    Attributes
    ----------
    recipe
        As it is to be treated.
    norms
        Total gradient norm before clipping at each step of the plain run, finite ones; empty where it is not known.
    steps
        Steps that the recipe asks for in full.
    suspects
        Modules that the diagnosis blames, the most to blame first.
    rewritable
        Whether ``torch.fx`` may rewrite the forward of a module, of those that were asked for.
    """

    recipe: Recipe
    norms: tuple[float, ...] = field(default=(), repr=False)
    steps: int = 0
    suspects: tuple[str, ...] = ()
    rewritable: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def model(self) -> nn.Module:
        """The network as built, for looking at."""
        return build_model(self.recipe)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimizer, for looking at."""
        return build_optimizer(self.recipe, self.model)

    @cached_property
    def batch(self) -> Any:
        """The first batch."""
        return BatchSource(self.recipe).first(1)[0]

    @cached_property
    def survey(self) -> Survey | None:
        """What the forward pass does with each weight; ``None`` where it cannot be read call by call."""
        try:
            return survey(self.recipe, self.model, self.batch)
        except Exception:  # noqa: BLE001 - what cannot be surveyed can still be given another optimizer
            return None

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """Where its nonlinearities stand; ``None`` where it cannot be read call by call."""
        try:
            return anatomy(self.recipe, self.model, self.batch)
        except Exception:  # noqa: BLE001 - as above
            return None

    @cached_property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """Its runs of equal blocks; none where the forward pass cannot be read."""
        try:
            return blocks_of(self.recipe, self.model, self.batch)
        except Exception:  # noqa: BLE001 - as above
            return ()

    @cached_property
    def carriers(self) -> tuple[Carrier, ...]:
        """The modules that carry a state from one time step to the next."""
        return carriers(self.recipe, self.model, self.batch)

    def quantile(self, share: float) -> float:
        """Gradient norm below which so many of the plain run's steps were; ``nan`` where it is not known."""
        if not self.norms:
            return math.nan
        return float(torch.tensor(self.norms, dtype=torch.float64).quantile(share))

    def after(self, remedy: Remedy) -> Facts:
        """Facts of the treated recipe, for a second remedy beside the first."""
        return Facts(remedy(self.recipe), (), self.steps, ())
