"""A plain training loop for the zoo, without any diagnosis tool, and the yardstick: progress over a constant."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graddoctor.recipe import Recipe

Look = Callable[[nn.Module, int], None]
ALL = -1
"""Every param group."""


@dataclass
class Run:
    """What one training gave. ``lost_updates`` is the largest share of low-precision updates that changed nothing."""

    model: nn.Module
    steps: int
    losses: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    lost_updates: float = 0.0
    score: float | None = None

    @property
    def final_loss(self) -> float:
        """Mean step loss of the last epoch; infinite if any loss was not finite."""
        return self.epoch_losses[-1] if self.finite and self.epoch_losses else math.inf

    @property
    def finite(self) -> bool:
        """Whether every loss was finite."""
        return all(math.isfinite(loss) for loss in self.losses)


def call(build: Callable[..., Any], seed: int) -> Any:
    """Call a builder, with the seed where it wants one."""
    try:
        wants = "seed" in inspect.signature(build).parameters
    except (TypeError, ValueError):
        wants = False
    return build(seed=seed) if wants else build()


def batches(recipe: Recipe, seed: int) -> Iterable[Any]:
    """Return what is iterated anew each epoch."""
    return call(recipe.batches, seed) if callable(recipe.batches) else recipe.batches


def autocast(recipe: Recipe) -> AbstractContextManager[Any]:
    """Return the precision context of a recipe."""
    return nullcontext() if recipe.precision is None else torch.autocast("cpu", recipe.precision)


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    if recipe.scheduler is None:
        return None
    if len(inspect.signature(recipe.scheduler).parameters) > 1:
        return recipe.scheduler(optimizer, steps)
    return recipe.scheduler(optimizer)


def _step(optimizer: torch.optim.Optimizer, factor: Mapping[int, float]) -> None:
    rates = [group["lr"] for group in optimizer.param_groups]
    for index, group in enumerate(optimizer.param_groups):
        group["lr"] = group["lr"] * factor.get(index, factor.get(ALL, 1.0))
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _unchanged(optimizer: torch.optim.Optimizer, factor: Mapping[int, float]) -> float:
    """Step, and return the share of low-precision entries with a gradient that the step left as they were."""
    low = [p for group in optimizer.param_groups for p in group["params"] if p.dtype in {torch.float16, torch.bfloat16}]
    before = [p.detach().clone() for p in low]
    _step(optimizer, factor)
    pushed = [(p.grad != 0) if p.grad is not None else torch.zeros_like(p, dtype=torch.bool) for p in low]
    total = sum(int(mask.sum()) for mask in pushed)
    same = sum(int(((p.detach() == old) & mask).sum()) for p, old, mask in zip(low, before, pushed, strict=True))
    return same / total if total else 0.0


def _micro_steps(data: Iterable[Any], every: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for batch in data:
        group.append(batch)
        if len(group) == every:
            yield group
            group = []
    if group:
        yield group


def train(recipe: Recipe, seed: int = 0, *, rate: float = 1.0, group: int = ALL, look: Look | None = None) -> Run:
    """Train as the recipe says, at the rate (of one param group) times a factor.

    ``look`` is called at the start, after an eighth of the steps, and at the end.
    """
    torch.manual_seed(seed)
    model = call(recipe.model, seed)
    optimizer = recipe.optimizer(model)
    length = sum(1 for _ in _micro_steps(batches(recipe, seed), recipe.accumulate))
    run = Run(model, length * recipe.epochs)
    scheduler = _scheduler(recipe, optimizer, run.steps)
    data = batches(recipe, seed)
    torch.manual_seed(seed + 1)
    model.train()
    for _ in range(recipe.epochs):
        for micro in _micro_steps(data, recipe.accumulate):
            if look is not None and len(run.losses) in {0, run.steps // 8}:
                look(model, seed)
            optimizer.zero_grad()
            for batch in micro:
                with autocast(recipe):
                    loss = recipe.loss(model, batch)
                (loss / len(micro)).backward()
            run.losses.append(float(loss.detach()))
            _after_backward(recipe, run, optimizer, {group: rate}, watched=look is not None)
            if not run.finite:
                break
            if scheduler is not None and recipe.scheduler_every == "batch":
                scheduler.step()
        if not run.finite:
            break
        run.epoch_losses.append(sum(run.losses[-length:]) / length)
        if scheduler is not None and recipe.scheduler_every == "epoch":
            scheduler.step()
    if look is not None:
        look(model, seed)
    run.score = None if recipe.evaluate is None else float(recipe.evaluate(model))
    return run


def _after_backward(
    recipe: Recipe, run: Run, optimizer: torch.optim.Optimizer, rate: Mapping[int, float], *, watched: bool
) -> None:
    parameters = [p for p in run.model.parameters() if p.grad is not None]
    if watched:
        gradients = [p.grad.detach() for p in parameters if p.grad is not None]
        run.gradients.append(float(torch.nn.utils.get_total_norm(gradients)))
    if recipe.clip is not None:
        recipe.clip(parameters)
    if len(run.losses) in {run.steps // 8, run.steps // 2, run.steps}:
        run.lost_updates = max(run.lost_updates, _unchanged(optimizer, rate))
    else:
        _step(optimizer, rate)


@torch.no_grad()
def training_score(recipe: Recipe, model: nn.Module) -> float:
    """Return accuracy, or R squared cut at 0, on the training batches."""
    model.eval()
    parts = [(model(*inputs), target) for *inputs, target in batches(recipe, 0)]
    output, target = (torch.cat([part[i] for part in parts]) for i in range(2))
    if not target.is_floating_point():
        return float((output.argmax(1) == target).float().mean())
    explained = float(1 - ((output - target) ** 2).mean() / target.var(correction=0))
    return max(0.0, explained) if math.isfinite(explained) else 0.0


class _Constant(nn.Module):
    """Gives every sample the same, free output, of the structure that a network gave."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        leaves, self.form = pytree.tree_flatten(output)
        self.free = nn.ParameterList(nn.Parameter(torch.zeros(leaf.shape[1:])) for leaf in leaves)

    def forward(self, *inputs: torch.Tensor) -> Any:
        count = len(inputs[0])
        return pytree.tree_unflatten([leaf.expand(count, *leaf.shape) for leaf in self.free], self.form)


def constant_loss(recipe: Recipe, seed: int = 0) -> float:
    """Return the loss of the best constant output, found by optimising it on all batches."""
    model = call(recipe.model, seed)
    data = list(batches(recipe, seed))
    with torch.no_grad():
        first = data[0][:-1]
        kind = next(model.parameters()).dtype
        output = model(*(x.to(kind) if x.is_floating_point() else x for x in first))
    constant = _Constant(output)
    target = torch.cat([batch[-1] for batch in data])
    if target.is_floating_point() and len(constant.free) == 1 and target.shape[1:] == constant.free[0].shape:
        with torch.no_grad():
            constant.free[0].copy_(target.nanmean(0))

    def mean_loss() -> torch.Tensor:
        return torch.stack([recipe.loss(constant, batch) for batch in data]).nanmean()

    size = max(abs(float(mean_loss().detach())), 1e-30)
    search = torch.optim.LBFGS(constant.parameters(), max_iter=25, line_search_fn="strong_wolfe")
    best = [math.inf]

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = mean_loss() / size
        loss.backward()
        if math.isfinite(float(loss.detach())):
            best[0] = min(best[0], float(loss.detach()) * size)
        return loss

    search.step(closure)  # type: ignore[arg-type]
    return best[0]


def progress(loss: float, base: float) -> float:
    """Return the share of the constant's loss that was removed, from 0 to 1."""
    return min(1.0, max(0.0, (base - loss) / abs(base))) if math.isfinite(loss) and math.isfinite(base) else 0.0
