"""Change an optimizer: its rates, its options, what it holds, its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def scale_rate(
    optimizer: torch.optim.Optimizer, model: nn.Module, factor: float
) -> torch.optim.Optimizer:
    """Multiply the rate of every parameter group; a scheduler that starts from it follows."""
    for group in optimizer.param_groups:
        rate = group["lr"] * factor
        group["lr"] = float(f"{rate:.12g}") if isinstance(rate, float) else rate  # 0.1 x 0.1 = 0.01
    return optimizer


def scale_steps(
    optimizer: torch.optim.Optimizer, model: nn.Module, factor: float
) -> torch.optim.Optimizer:
    """Multiply the rates for the time of each step, whatever a scheduler sets them to."""
    StepScale.of(optimizer).multiply(lambda _: factor)
    return optimizer


def warm_up_steps(
    optimizer: torch.optim.Optimizer, model: nn.Module, steps: int
) -> torch.optim.Optimizer:
    """Raise the rates to what they are in so many steps, beside any scheduler."""
    StepScale.of(optimizer).multiply(lambda step: min(1.0, (step + 1) / steps))
    return optimizer


class StepScale:
    """Scales the rates of an optimizer for the time of a step, and puts them back after it.

    Between steps every group has the rate that its scheduler reads and writes. A step that calls
    the step of its parent class is one step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.rates: list[Any] = []
        self.depth, self.step = 0, 0
        optimizer.register_step_pre_hook(self.begin)
        optimizer.register_step_post_hook(self.end)
        vars(optimizer)["step_scale"] = self

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> StepScale:
        """Return the one that an optimizer has: several factors share it, and multiply."""
        return vars(optimizer).get("step_scale") or cls(optimizer)

    def multiply(self, factor: Callable[[int], float]) -> None:
        """Add a factor, a function of the number of the step."""

        def scale(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if self.depth == 1:
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * factor(self.step)

        self.optimizer.register_step_pre_hook(scale)

    def begin(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Keep the rates."""
        self.depth += 1
        if self.depth == 1:
            self.rates = [group["lr"] for group in optimizer.param_groups]

    def end(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Put the rates back."""
        self.depth -= 1
        if self.depth == 0:
            self.step += 1
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate


def equalise_rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Give every parameter group the highest rate of them all."""
    highest = max(group["lr"] for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        group["lr"] = highest
    return optimizer


def set_options(
    optimizer: torch.optim.Optimizer, model: nn.Module, **options: Any
) -> torch.optim.Optimizer:
    """Set options of every parameter group, such as ``weight_decay=0.0``."""
    for group in optimizer.param_groups:
        group.update({name: value for name, value in options.items() if name in group})
    return optimizer


def lower_momentum(
    optimizer: torch.optim.Optimizer, model: nn.Module, highest: float
) -> torch.optim.Optimizer:
    """Lower the momentum, or Adam's first beta, where it is higher."""
    for group in optimizer.param_groups:
        if group.get("momentum", 0) > highest:
            group["momentum"] = highest
        if "betas" in group:
            first, *others = group["betas"]
            group["betas"] = (min(first, highest), *others)
    return optimizer


def lower_epsilon(
    optimizer: torch.optim.Optimizer, model: nn.Module, highest: float
) -> torch.optim.Optimizer:
    """Lower the epsilon where it is higher."""
    for group in optimizer.param_groups:
        if isinstance(group.get("eps"), float) and group["eps"] > highest:
            group["eps"] = highest
    return optimizer


def scale_decay(
    optimizer: torch.optim.Optimizer, model: nn.Module, factor: float
) -> torch.optim.Optimizer:
    """Multiply the weight decay of every parameter group."""
    for group in optimizer.param_groups:
        if group.get("weight_decay"):
            group["weight_decay"] = float(f"{group['weight_decay'] * factor:.12g}")
    return optimizer


def decay_weights_only(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Take biases and the parameters of normalizations, in groups of their own, out of the decay.

    Whatever has fewer than two axes counts as a bias: slopes and scales are among them.
    """
    spared = {
        id(parameter)
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.ndim < 2 or "Norm" in type(module).__name__
    }
    for group in list(optimizer.param_groups):
        biases = [index for index, p in enumerate(group["params"]) if id(p) in spared]
        if not group.get("weight_decay") or not biases:
            continue
        if len(biases) == len(group["params"]):
            group["weight_decay"] = 0.0
            continue
        parts: dict[str, Any] = {**group, "weight_decay": 0.0}
        for name in {"params", "param_names"} & group.keys():
            parts[name] = [group[name][index] for index in biases]
            group[name] = [v for index, v in enumerate(group[name]) if index not in biases]
        if "param_names" in parts:
            parts["params"] = list(zip(parts.pop("param_names"), parts["params"], strict=True))
        optimizer.add_param_group(parts)
    return optimizer


def hold_everything(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Give the optimizer the trainable parameters that it was not given.

    Each joins the group that has most of its kind: vectors (biases, norms) or matrices.
    """
    groups = optimizer.param_groups
    held = {id(parameter) for group in groups for parameter in group["params"]}
    counts = {
        vector: [sum((p.ndim < 2) is vector for p in group["params"]) for group in groups]
        for vector in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in held:
            count = counts[parameter.ndim < 2]
            group = groups[count.index(max(count))]
            group["params"].append(parameter)
            if "param_names" in group:
                group["param_names"].append(name)
    return optimizer


def replace_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    kind: Callable[..., torch.optim.Optimizer],
    lr: float,
    **options: Any,
) -> torch.optim.Optimizer:
    """Build another optimizer over the same parameter groups.

    The group with the highest rate gets `lr`, the others theirs in proportion. Weight decay stays
    where it means the same in both; a group that was spared stays spared.
    """
    groups = optimizer.param_groups
    highest = max(float(group["lr"]) for group in groups) or 1.0
    built = []
    for group in groups:
        named = "param_names" in group
        held = zip(group["param_names"], group["params"], strict=True) if named else group["params"]
        known = {*optimizer.defaults, "params", "param_names", "initial_lr"}
        own = {name: value for name, value in group.items() if name not in known}
        rate = float(f"{lr * float(group['lr']) / highest:.12g}")
        built.append({**own, "params": list(held), "lr": rate})
    maximize = any(group.get("maximize") for group in groups)
    new = kind(built, lr=lr, **options, **({"maximize": True} if maximize else {}))
    alike = decay_is_decoupled(new) is decay_is_decoupled(optimizer)
    decayed = any(group.get("weight_decay") for group in groups)
    for group, old in zip(new.param_groups, groups, strict=True):
        if decayed and "weight_decay" in group and (alike or not old.get("weight_decay")):
            group["weight_decay"] = old.get("weight_decay", 0.0)
    return new


def decay_is_decoupled(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weight decay is taken off the weights themselves, not added to the gradient."""
    return isinstance(optimizer, (torch.optim.AdamW, torch.optim.Adafactor)) or any(
        group.get("decoupled_weight_decay") for group in optimizer.param_groups
    )
