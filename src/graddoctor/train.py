"""The one training loop: check, fix and lab train through it and nothing else does."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from graddoctor.batches import BatchSource
from graddoctor.build import build_model, build_optimizer, build_scheduler, check_loss, check_reached, network_of, takes
from graddoctor.errors import RecipeError
from graddoctor.randomness import generators_of, kept_generators, kept_random_state, seed_everything, seeded
from graddoctor.recipe import Recipe

__all__ = [
    "BatchSource",
    "Observer",
    "Outcome",
    "build_model",
    "build_optimizer",
    "check_loss",
    "evaluate",
    "loss_of",
    "network_of",
    "takes",
    "train",
]

NON_FINITE_PATIENCE = 20
"""So many non-finite losses end a run: weights that are NaN stay NaN."""

_LOOK_EVERY = 16  # losses are read off the device in blocks, so that a step never waits for the host


class Observer:
    """What may look on while a recipe is trained; every method does nothing unless overridden.

    An observer that has seen enough sets ``stop``: the run ends at the next block of losses.
    """

    stop = False

    def built(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Model and optimizer exist; `steps` will be run."""

    def before_step(self, step: int, model: nn.Module, batch: Any) -> None:
        """About to run forward on `batch`, the first micro-batch of the step."""

    def after_backward(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Gradients are complete and not yet clipped."""

    def before_update(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Gradients are clipped, the optimizer has not stepped."""

    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """The weights have moved, the scheduler has not stepped."""

    def losses(self, first: int, values: Sequence[float]) -> None:
        """A block of losses was read, beginning with that of step `first`."""


@dataclass(frozen=True)
class Outcome:
    """What training a recipe gave.

    Attributes
    ----------
    losses
        One training loss per step that was run, float64; not finite where it was not.
    total_steps
        Steps that the recipe asks for in full.
    steps_per_epoch
        Optimizer steps in one pass over the batches.
    evaluation
        ``recipe.evaluate(model)`` at the end, or ``None``.
    seconds
        Wall-clock time of the steps and the evaluation, without building.
    model
        The network as the run left it.
    ended
        ``"complete"``, ``"non-finite"`` (losses stayed so), ``"stopped"`` (by the observer), ``"deadline"``
        or ``"interrupted"`` (Ctrl-C: what was seen is kept).
    """

    losses: NDArray[np.float64]
    total_steps: int
    steps_per_epoch: int
    evaluation: float | None
    seconds: float
    ended: str
    model: nn.Module = field(repr=False)

    @property
    def steps(self) -> int:
        """Steps that were run."""
        return len(self.losses)

    @property
    def first_nonfinite(self) -> int | None:
        """The first step whose loss was not finite."""
        bad = np.flatnonzero(~np.isfinite(self.losses))
        return int(bad[0]) if len(bad) else None


def train(
    recipe: Recipe,
    *,
    steps: int | None = None,
    observer: Observer | None = None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    deadline: float = math.inf,
) -> Outcome:
    """Train a recipe from the start; deterministic for its seed, and the caller's random state stays as it was.

    Parameters
    ----------
    recipe
        What to train. Random generators that its parts hold are put back too.
    steps
        Stop after so many steps; all of them where it is ``None`` or 0. The learning-rate schedule is then run through
        faster, so that a short run sees the whole of it.
    observer
        Looks on. Nothing that it reads changes the training.
    around
        A context that is entered for the run, for experiments that must reach into the backward pass.
    deadline
        ``time.monotonic()``, in seconds, at which the run stops wherever it is; the outcome says so.

    Raises
    ------
    RecipeError
        The recipe, or something that it builds, cannot be trained as it is. What the user's own functions raise is
        handed on.
    """
    parts = (recipe.batches, recipe.model, recipe.loss, recipe.optimizer, recipe.evaluate)
    with seeded(recipe.seed), kept_generators(generators_of(*parts)):
        source = BatchSource(recipe)
        with kept_generators(source.generators()):
            return _Run(recipe, source, steps, observer or Observer(), deadline).run(around)


class _Run:
    def __init__(
        self, recipe: Recipe, source: BatchSource, steps: int | None, observer: Observer, deadline: float
    ) -> None:
        self.recipe, self.source, self.observer, self.deadline = recipe, source, observer, deadline
        self.batches = source.count()
        if not self.batches:
            msg = "batches gave no batch at all: an epoch must have at least one"
            raise RecipeError(msg)
        self.accumulate = max(1, recipe.accumulate)
        self.per_epoch = math.ceil(self.batches / self.accumulate)
        self.total = self.per_epoch * recipe.epochs
        self.steps = max(1, min(steps or self.total, self.total))
        self.model = build_model(recipe)
        self.optimizer = build_optimizer(recipe, self.model)
        self.scheduler = build_scheduler(recipe, self.optimizer, self.total)
        self.turns = 0  # how often the scheduler was stepped
        self.since_turn: list[torch.Tensor] = []
        self.pending: list[torch.Tensor] = []
        self.values: list[float] = []

    def run(self, around: Callable[[], AbstractContextManager[Any]]) -> Outcome:
        self.observer.built(self.model, self.optimizer, self.steps)
        seed_everything(self.recipe.seed + 1)
        started = time.perf_counter()
        try:
            with around():
                ended = self._steps()
        except KeyboardInterrupt:
            ended = "interrupted"
        except Exception:
            with suppress(Exception):  # what raised may have left nothing that can be read
                self._read_losses()
            raise
        self._read_losses()
        evaluation = None
        if ended != "interrupted":
            try:
                evaluation = evaluate(self.recipe, self.model)
            except KeyboardInterrupt:
                ended = "interrupted"
        seconds = time.perf_counter() - started
        return Outcome(
            losses=np.asarray(self.values, dtype=np.float64),
            total_steps=self.total,
            steps_per_epoch=self.per_epoch,
            evaluation=evaluation,
            seconds=seconds,
            ended=ended,
            model=self.model,
        )

    def _steps(self) -> str:
        """Run all steps and say how it ended."""
        for step, micro in enumerate(itertools.islice(self._groups(), self.steps)):
            self._step(step, micro)
            if step % _LOOK_EVERY == _LOOK_EVERY - 1:
                self._read_losses()
                if self._hopeless():
                    return "non-finite"
                if self.observer.stop:
                    return "stopped"
            if time.monotonic() > self.deadline:
                return "deadline"
        return "complete"

    def _groups(self) -> Iterator[list[Any]]:
        """Micro-batches of one step after another, over all epochs."""
        for epoch in range(self.recipe.epochs):
            batches = self.source.epoch(epoch)
            empty = True
            while group := list(itertools.islice(batches, self.accumulate)):
                empty = False
                yield group
            if empty:
                msg = (
                    f"batches gave nothing in epoch {epoch + 1}: it is used up after one pass; "
                    "return a list or a DataLoader, or make a new generator at every call"
                )
                raise RecipeError(msg)

    def _step(self, step: int, micro: list[Any]) -> None:
        recipe, observer = self.recipe, self.observer
        observer.before_step(step, self.model, micro[0])
        self.optimizer.zero_grad(set_to_none=True)
        total: torch.Tensor | None = None
        for batch in micro:
            loss = loss_of(recipe, self.model, batch)
            check_loss(loss)
            (loss / len(micro) if len(micro) > 1 else loss).backward()  # type: ignore[no-untyped-call]
            part = loss.detach().reshape(()) / len(micro)
            total = part if total is None else total + part
        if step == 0:
            check_reached(self.model)
        observer.after_backward(step, self.model, self.optimizer)
        if recipe.clip:
            recipe.clip([p for p in self.model.parameters() if p.grad is not None])
        observer.before_update(step, self.model, self.optimizer)
        self.optimizer.step()
        observer.after_step(step, self.model, self.optimizer)
        assert total is not None  # noqa: S101 - a group is never empty
        self.pending.append(total)
        self._turn_scheduler(step + 1, total)

    def _turn_scheduler(self, done: int, loss: torch.Tensor) -> None:
        """Step the scheduler as often as a full run would have by this share of the run."""
        if self.scheduler is None:
            return
        equivalent = done * self.total / self.steps
        due = math.floor(equivalent + 1e-9)
        if self.recipe.scheduler_every == "epoch":
            due = math.floor(equivalent / self.per_epoch + 1e-9)
        if not isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            for _ in range(due - self.turns):
                self.scheduler.step()
        else:
            self.since_turn.append(loss)
            if due > self.turns:
                metric = self._metric()
                for _ in range(due - self.turns):
                    self.scheduler.step(metric)
        self.turns = max(self.turns, due)

    def _metric(self) -> float:
        """What a scheduler that waits for a plateau is given: the mean loss since its last turn, or the metric."""
        mean, self.since_turn = float(torch.stack(self.since_turn).mean()), []
        metric = evaluate(self.recipe, self.model) if self.scheduler.mode == "max" else None
        return mean if metric is None else metric

    def _read_losses(self) -> None:
        if not self.pending:
            return
        block = torch.stack([loss.double() for loss in self.pending]).tolist()
        self.observer.losses(len(self.values), block)
        self.values += block
        self.pending = []

    def _hopeless(self) -> bool:
        tail = self.values[-NON_FINITE_PATIENCE:]
        return len(tail) == NON_FINITE_PATIENCE and not any(map(math.isfinite, tail))


def loss_of(recipe: Recipe, model: nn.Module, batch: Any) -> torch.Tensor:
    """Compute the recipe's loss on a batch, under its autocast."""
    if recipe.precision is None:
        return recipe.loss(model, batch)
    with torch.autocast(torch.device(recipe.device).type, dtype=recipe.precision):
        return recipe.loss(model, batch)


def evaluate(recipe: Recipe, model: nn.Module) -> float | None:
    """Take the recipe's metric of a trained network, in eval mode, without touching random state.

    Returns
    -------
    The metric, higher is better; ``None`` where the recipe has none.

    Raises
    ------
    RecipeError
        What it returned is no number.
    """
    if recipe.evaluate is None:
        return None
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with kept_random_state(), kept_generators(generators_of(recipe.evaluate)), torch.no_grad():
            value = recipe.evaluate(model)
    finally:
        for module, mode in modes:
            module.training = mode
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"evaluate must return a number; it returned {_described(value)}"
        raise RecipeError(msg) from error


def _described(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, (torch.Tensor, np.ndarray)) else ""
    return f"{type(value).__name__}{shape}"
