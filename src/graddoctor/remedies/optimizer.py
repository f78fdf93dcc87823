"""Change how far and in which direction a step goes: rate, momentum, epsilon, decay, schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

ORDINARY_MOMENTUM = 0.9
ORDINARY_EPSILON = 1e-8


def learning_rate(factor: float) -> Remedy:
    """Multiply the rate of every parameter group, after the scheduler, which may overwrite rates as it likes.

    Between steps the groups hold the rates that they would have without it. Two such changes multiply.

    Source: Smith 2015 on how rates are searched.
    """

    def treat(optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        _ScaledRate(factor).attach(optimizer)

    name = f"learning rate x {factor:g}"
    return Remedy(name, (Cause.LEARNING_RATE,), _on_optimizer(treat), "Smith 2015", rate=factor)


def one_rate(spread: float) -> Remedy:
    """Give every parameter group the largest rate of them all; ``spread`` is how far they are apart, as a factor."""

    def treat(optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        highest = max(group["lr"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["lr"] = highest

    return Remedy("the same rate for every group", (Cause.LEARNING_RATE,), _on_optimizer(treat), rate=spread)


def ordinary_momentum() -> Remedy:
    """Momentum 0.9, or Adam's first beta 0.9, where it is higher.

    Source: Polyak 1964.
    """

    def treat(optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        for group in optimizer.param_groups:
            if group.get("momentum", 0) > ORDINARY_MOMENTUM:
                group["momentum"] = ORDINARY_MOMENTUM
            if "betas" in group:
                first, *others = group["betas"]
                group["betas"] = (min(first, ORDINARY_MOMENTUM), *others)

    return Remedy("momentum 0.9", (Cause.MOMENTUM,), _on_optimizer(treat), "Polyak 1964")


def ordinary_epsilon() -> Remedy:
    """Adam's epsilon at 1e-8 where it is larger: an epsilon above the gradient's own scale swallows the step.

    Source: Kingma and Ba 2015.
    """

    def treat(optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        for group in optimizer.param_groups:
            if isinstance(group.get("eps"), float) and group["eps"] > ORDINARY_EPSILON:
                group["eps"] = ORDINARY_EPSILON

    return Remedy("epsilon 1e-8", (Cause.OPTIMIZER,), _on_optimizer(treat), "Kingma and Ba 2015")


def no_weight_decay() -> Remedy:
    """No weight decay in any parameter group."""

    def treat(optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        for group in optimizer.param_groups:
            if group.get("weight_decay"):
                group["weight_decay"] = 0.0

    return Remedy("weight decay lifted", (Cause.WEIGHT_DECAY,), _on_optimizer(treat))


def every_parameter() -> Remedy:
    """Give the optimizer the trainable parameters that it was not given."""

    def treat(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = {n: p for n, p in model.named_parameters() if p.requires_grad and id(p) not in held}
        if missing:
            named = "param_names" in optimizer.param_groups[0]
            options = {k: v for k, v in optimizer.param_groups[0].items() if k not in {"params", "param_names"}}
            optimizer.add_param_group({**options, "params": list(missing.items() if named else missing.values())})

    return Remedy("every trainable parameter in the optimizer", (Cause.GRAPH,), _on_optimizer(treat))


def constant_rate() -> Remedy:
    """No schedule: the rate that the optimizer was built with, throughout."""
    return Remedy("constant learning rate", (Cause.SCHEDULE,), lambda recipe: recipe.with_(scheduler=None))


def adam(rate: float = 1e-3) -> Remedy:
    """Adam in place of the optimizer, on the same parameters, all at one rate and without a schedule.

    Source: Kingma and Ba 2015.
    """

    def change(recipe: Recipe) -> Recipe:
        build = recipe.optimizer

        def optimizer(model: nn.Module) -> torch.optim.Optimizer:
            held = [p for group in build(model).param_groups for p in group["params"]]
            return torch.optim.Adam(held, lr=rate)

        return recipe.with_(optimizer=optimizer, scheduler=None)

    return Remedy(f"Adam at {rate:g}", (Cause.OPTIMIZER,), change, "Kingma and Ba 2015")


def _on_optimizer(treat: Callable[[torch.optim.Optimizer, nn.Module], None]) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        build = recipe.optimizer

        def optimizer(model: nn.Module) -> torch.optim.Optimizer:
            built = build(model)
            treat(built, model)
            return built

        return recipe.with_(optimizer=optimizer)

    return change


class _ScaledRate:
    """Scales the rates for the time of a step, also of one that calls ``super().step``, and puts them back."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.depth = 0
        self.rates: list[Any] = []

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        before: _ScaledRate | None = optimizer.__dict__.get("_scaled_rate")
        if before is not None:  # hooks after a step run in the order of those before it: two would not undo each other
            before.factor *= self.factor
            return
        optimizer.__dict__["_scaled_rate"] = self
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)

    def before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.depth += 1
        if self.depth == 1:
            self.rates = [group["lr"] for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * self.factor

    def after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.depth -= 1
        if self.depth == 0:
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate
