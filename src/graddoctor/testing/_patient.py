"""What a patient is, and the few helpers that build one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graddoctor.recipe import Recipe
from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Kind, Task, Tensors, batches_of

Loss = Callable[[nn.Module, Any], torch.Tensor]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Patient:
    """A training whose truth is known, because it was measured (``benchmarks/zoo_truth.py``).

    Parameters
    ----------
    name
        Unique in the zoo; the first word is the family.
    recipe
        The training as somebody would hand it in.
    conditions
        All conditions that are true of it; empty when it is sound.
    causes
        Every cause that a fair reader would accept as the first one.
    modules
        Where the fault sits, by module name; empty when it is everywhere or in no module.
    twin
        The same training with the fault taken out by hand; ``None`` for sound patients.
    story
        One sentence: what was done to it, or why it looks worse than it is.
    """

    name: str
    recipe: Recipe
    conditions: frozenset[Condition]
    causes: frozenset[Cause]
    modules: tuple[str, ...]
    twin: Recipe | None
    story: str

    @property
    def sick(self) -> bool:
        """Whether anything is wrong with it."""
        return bool(self.conditions)

    @property
    def family(self) -> str:
        """The first word of the name."""
        return self.name.split("_")[0]


def sick(
    name: str,
    story: str,
    sound_twin: Recipe,
    *,
    conditions: Iterable[Condition],
    causes: Iterable[Cause],
    modules: tuple[str, ...] = (),
    **fault: Any,
) -> Patient:
    """Make a patient from its sound twin: ``fault`` exchanges the parts of the recipe that are wrong."""
    return Patient(
        name,
        sound_twin.with_(name=name, **fault),
        frozenset(conditions),
        frozenset(causes),
        modules,
        sound_twin.with_(name=f"{name}_twin"),
        story,
    )


def sound(name: str, story: str, recipe: Recipe) -> Patient:
    """Make a patient with nothing wrong."""
    return Patient(name, recipe.with_(name=name), frozenset(), frozenset(), (), None, story)


def seeded(build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """Wrap a builder so that the seed of the run decides its draw."""

    def model(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return build()

    return model


def batches(task: Callable[[], Task], size: int, *, shuffle: bool = True) -> Callable[[int], Iterable[Tensors]]:
    """Return a loader builder over the training part of a task."""

    def loader(seed: int = 0) -> Iterable[Tensors]:
        return batches_of(task().train, size, seed if shuffle else None)

    return loader


def plain_loss(kind: Kind) -> Loss:
    """Return the usual loss on ``model(*inputs)``: cross entropy, logistic or squared error."""
    measures: dict[Kind, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "classes": functional.cross_entropy,
        "binary": functional.binary_cross_entropy_with_logits,
        "real": functional.mse_loss,
    }
    measure = measures[kind]

    def loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
        *inputs, target = batch
        return measure(model(*inputs), target)

    return loss


def score(task: Callable[[], Task]) -> Callable[[nn.Module], float]:
    """Return the evaluation on the validation part: accuracy, or R squared cut at 0; not finite counts as 0."""

    @torch.no_grad()
    def evaluate(model: nn.Module) -> float:
        held_out = task()
        *inputs, target = held_out.test
        was_training = model.training
        model.eval()
        output = model(*inputs).float()
        model.train(was_training)
        if held_out.kind == "classes":
            return float((output.argmax(1) == target).float().mean())
        if held_out.kind == "binary":
            return float(((output > 0) == (target > 0.5)).float().mean())
        explained = 1 - ((output - target) ** 2).mean() / target.var(correction=0)
        return max(0.0, float(explained)) if bool(torch.isfinite(explained)) else 0.0

    return evaluate


def sgd(lr: float, momentum: float = 0.0, **options: Any) -> Optimizer:
    """Return a builder of SGD over all parameters."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **options)


def adam(lr: float, **options: Any) -> Optimizer:
    """Return a builder of Adam over all parameters."""
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr, **options)


def training(
    task: Callable[[], Task],
    kind: Kind,
    build: Callable[[], nn.Module],
    optimizer: Optimizer,
    *,
    epochs: int = 12,
    size: int = 64,
    judged: bool = True,
    **parts: Any,
) -> Recipe:
    """Put a recipe together: seeded model, shuffled batches, the usual loss, the usual score unless not ``judged``."""
    usual: dict[str, Any] = {"batches": batches(task, size), "loss": plain_loss(kind)}
    return Recipe(
        model=seeded(build),
        optimizer=optimizer,
        evaluate=score(task) if judged else None,
        epochs=epochs,
        **(usual | parts),
    )
