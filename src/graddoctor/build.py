"""Build what a recipe asks for, and refuse what cannot be trained, each in one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graddoctor.errors import RecipeError
from graddoctor.randomness import generators_of, kept_generators, seeded
from graddoctor.recipe import Recipe


def build_model(recipe: Recipe) -> nn.Module:
    """Build the recipe's network for its seed, in training mode, on its device.

    It is the same network at every call, and the caller's random state stays as it was.

    Raises
    ------
    RecipeError
        What was built is no network, or has nothing to train.
    """
    with seeded(recipe.seed), kept_generators(generators_of(recipe.model)):
        model = network_of(recipe.model, recipe.seed)
    if not isinstance(model, nn.Module):
        msg = f"model must build a torch.nn.Module; it returned {type(model).__name__}"
        raise RecipeError(msg)
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        msg = (
            f"{type(model).__name__} has lazy layers that do not know their shape yet: "
            "run it on a batch in the function that builds it, before it is returned"
        )
        raise RecipeError(msg)
    if not any(p.requires_grad for p in model.parameters()):
        count = sum(1 for _ in model.parameters())
        msg = f"none of the network's {count} parameters requires a gradient: set requires_grad on some"
        raise RecipeError(msg)
    return model.to(recipe.device).train()


def network_of(build: Callable[..., nn.Module], seed: int) -> nn.Module:
    """Call a builder of networks, with the seed of the run where it has a parameter for it."""
    return build(seed=seed) if takes(build, "seed") else build()


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimizer and see that it holds parameters of this very network.

    Raises
    ------
    RecipeError
        What was built is no optimizer, calls the loss itself (LBFGS), or holds no parameter of `model`.
    """
    optimizer = recipe.optimizer(model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"optimizer must return a torch.optim.Optimizer; it returned {type(optimizer).__name__}"
        raise RecipeError(msg)
    if takes(type(optimizer).step, "closure") and _required(type(optimizer).step, "closure"):
        msg = (
            f"optimizer {type(optimizer).__name__} calls the loss itself, several times a step, which cannot be "
            "followed: give one whose step() needs no closure"
        )
        raise RecipeError(msg)
    mine = {id(p) for p in model.parameters()}
    if not any(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
        msg = (
            "the optimizer holds no parameter of the network it was given: build it from the argument, "
            "as in  optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1)"
        )
        raise RecipeError(msg)
    return optimizer


def build_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, total: int) -> Any:
    """Build the recipe's scheduler, if it has one; `total` is the number of steps of a full run.

    Raises
    ------
    RecipeError
        It waits for a metric to rise and the recipe has none.
    """
    if recipe.scheduler is None:
        return None
    try:
        required = [
            p
            for p in inspect.signature(recipe.scheduler).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        required = []
    turns = recipe.epochs if recipe.scheduler_every == "epoch" else total
    scheduler = recipe.scheduler(optimizer, turns) if len(required) > 1 else recipe.scheduler(optimizer)
    if getattr(scheduler, "mode", "") == "max" and recipe.evaluate is None:
        msg = (
            f"{type(scheduler).__name__} waits for a metric to rise (mode='max') and the recipe has none: "
            "give evaluate=, or mode='min' to follow the loss"
        )
        raise RecipeError(msg)
    return scheduler


def check_loss(loss: Any) -> None:
    """Refuse a loss that cannot be trained on.

    Raises
    ------
    RecipeError
        It is no tensor, has more than one element, or depends on no trainable parameter.
    """
    if not isinstance(loss, torch.Tensor):
        msg = f"loss must return a tensor; it returned {type(loss).__name__}"
        raise RecipeError(msg)
    if loss.numel() != 1:
        msg = f"loss must return a scalar; it returned shape {tuple(loss.shape)}: take the mean or the sum"
        raise RecipeError(msg)
    if not loss.requires_grad:
        msg = (
            "the loss depends on no trainable parameter: look for .detach(), .item(), torch.no_grad() or argmax "
            "between the network and the loss"
        )
        raise RecipeError(msg)


def check_reached(model: nn.Module) -> None:
    """Refuse a loss whose gradient has reached no parameter of the network.

    Raises
    ------
    RecipeError
        No parameter has a gradient.
    """
    if all(p.grad is None for p in model.parameters()):
        msg = (
            "the loss depends on no trainable parameter of the network that it was given: "
            "compute it from that network, as in  loss=lambda model, batch: criterion(model(batch[0]), batch[1])"
        )
        raise RecipeError(msg)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _required(function: Callable[..., Any], name: str) -> bool:
    return inspect.signature(function).parameters[name].default is inspect.Parameter.empty
