"""What was observed of one training: the outcome, the probes along the way, and facts that cost nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from graddoctor.diagnose.logbook import Logbook
from graddoctor.observe.alike import AlikeReading
from graddoctor.observe.budget import Budget
from graddoctor.observe.probe import Probe, probe
from graddoctor.observe.readings import ActivationReading, ParameterReading
from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe
from graddoctor.remedies.survey import Survey
from graddoctor.train import BatchSource, Observer, Outcome, loss_of

SAMPLES = 256
"""A unit counts as dead when it is silent on so many samples."""

_EXTRA_BATCHES = 8
MANY = 200
"""Operations from which on a pass with loops over time is a long one."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The settings of one parameter group as the optimizer was built, and the modules whose parameters it holds."""

    lr: float
    momentum: float
    beta1: float
    eps: float
    weight_decay: float
    decoupled: bool
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observation:
    """Everything that a rule may look at.

    Attributes
    ----------
    outcome
        Losses and metric of the run.
    probes
        Exact looks, by step; the first is before any step was taken.
    yardstick
        The loss of the best constant predictor.
    survey
        What follows each weight in the forward pass; ``None`` where it could not be read.
    deep_blocks
        Equal blocks that stand in a row with nothing that leads past them, where they are many.
    alike
        What the first and the last of these give for the samples of a batch, before the first step.
    expected
        The gradient budget that theory expects of the network as built; ``None`` where it has nothing to say.
    deviations
        By module: decades between its weights' scale and the scale that its activation asks for.
    raw_norms, clipped_norms
        Total gradient norm of every step, before and after the recipe's clip.
    rates
        Largest learning rate of every step.
    groups, missing
        Settings of the optimizer's groups; trainable parameters that it was not given.
    low_precision, ordered
        Whether anything in a step is computed in 16 bits; whether batches come in an order.
    planned
        Steps that the run was to take.
    """

    recipe: Recipe
    outcome: Outcome
    probes: tuple[Probe, ...]
    yardstick: Yardstick
    progress: float
    survey: Survey | None = None
    deep_blocks: tuple[str, ...] = ()
    alike: tuple[AlikeReading, ...] = ()
    expected: Budget | None = None
    deviations: dict[str, float] = field(default_factory=dict)
    raw_norms: Numbers = field(default_factory=lambda: np.zeros(0))
    clipped_norms: Numbers = field(default_factory=lambda: np.zeros(0))
    rates: Numbers = field(default_factory=lambda: np.zeros(0))
    groups: tuple[Group, ...] = ()
    missing: tuple[str, ...] = ()
    low_precision: bool = False
    ordered: bool = False
    planned: int = 0

    @property
    def start(self) -> Probe:
        """The look before the first step."""
        return self.probes[0]

    @property
    def moments(self) -> tuple[Probe, ...]:
        """The looks at which a state counts: before the first step, after an eighth of the run, and at its end.

        What shows only in between is gone by itself; what shows where the loss is not finite is no state of a network.
        """
        eighth = self.outcome.steps // 8
        looks = [look for look in self.probes if look.step in {0, eighth} or look is self.probes[-1]]
        return tuple(look for look in looks if math.isfinite(look.loss)) or self.probes[:1]

    @property
    def epoch_losses(self) -> Numbers:
        """Mean loss of each epoch that was run in full; at least four parts of the run where there are fewer."""
        losses = self.outcome.losses
        size = min(self.outcome.steps_per_epoch, max(1, len(losses) // 4))
        whole = len(losses) // size * size
        return losses[:whole].reshape(-1, size).mean(1) if whole else losses


class Monitor(Observer):
    """Looks on while a recipe is trained: exact probes at steps 0, 1, 2, 4, 8, …, and what each step gives for free.

    Parameters
    ----------
    announce
        Called with the steps done and the steps in all, whenever losses were read.
    logbook
        Where what was seen is written down, at probes and whenever losses were read.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        announce: Callable[[int, int], None] = lambda _done, _of: None,
        logbook: Logbook | None = None,
    ) -> None:
        self.recipe, self.announce, self.logbook = recipe, announce, logbook
        self.probes: list[Probe] = []
        self.raw, self.clipped = _Norms(), _Norms()
        self.rates: list[float] = []
        self.groups: tuple[Group, ...] = ()
        self.missing: tuple[str, ...] = ()
        self.steps = 0
        self._extra: list[Any] = []
        self._before: dict[str, torch.Tensor] | None = None

    @override
    def built(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.steps = steps
        names = {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}
        self.groups = tuple(_group(optimizer, g, names) for g in optimizer.param_groups)
        held = {id(p) for g in optimizer.param_groups for p in g["params"]}
        self.missing = tuple(n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held)
        self._extra = _enough_samples(BatchSource(self.recipe).first(_EXTRA_BATCHES))
        if self.logbook:
            self.logbook.begin(self.recipe, model, steps)

    @override
    def before_step(self, step: int, model: nn.Module, batch: Any) -> None:
        if self._is_probed(step):
            self._look(model, [batch, *self._extra], step)

    @override
    def after_backward(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.raw.append(total_norm(model))
        self.rates.append(max(float(g["lr"]) for g in optimizer.param_groups))
        del step

    @override
    def before_update(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.recipe.clip:
            self.clipped.append(total_norm(model))
        if self._is_probed(step):
            self._before = {n: p.detach().clone() for n, p in model.named_parameters() if p.grad is not None}
        del optimizer

    @override
    def after_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self._before is not None and self.probes:
            self.probes[-1] = _with_updates(self.probes[-1], self._before, model)
            self._before = None
            if self.logbook:
                self.logbook.updates(self.probes[-1])
        del step, optimizer

    @override
    def losses(self, first: int, values: Sequence[float]) -> None:
        self.announce(first + len(values), self.steps)
        if self.logbook:
            read = slice(first, first + len(values))
            numbers = {"loss": values, "lr": self.rates[read], "gradient_norm": self.raw.read()[read]}
            if self.recipe.clip:
                numbers["clipped_norm"] = self.clipped.read()[read]
            self.logbook.steps(first, **numbers)

    def finish(self, outcome: Outcome) -> tuple[Probe, ...]:
        """Take the last look, at the weights that the training ended with."""
        if outcome.steps:
            self.look(outcome.model, outcome.steps)
        return tuple(self.probes)

    def look(self, model: nn.Module, step: int) -> None:
        """Take a look at a network on the first batches of the recipe."""
        self._look(model, self._extra, step)

    def rate_curve(self) -> Numbers:
        """Largest learning rate of every step."""
        return np.asarray(self.rates, dtype=np.float64)

    def norms(self) -> tuple[Numbers, Numbers]:
        """Total gradient norm of every step, before and after clipping."""
        raw, clipped = (np.asarray(norms.read(), dtype=np.float64) for norms in (self.raw, self.clipped))
        return raw, clipped if len(clipped) else raw

    def _is_probed(self, step: int) -> bool:
        return step in self._counting or (step & (step - 1) == 0 and not self._unrolled)

    @property
    def _counting(self) -> tuple[int, int]:
        """Steps at which a state counts, beside the end of the run: see `Observation.moments`."""
        return 0, self.steps // 8

    @property
    def _unrolled(self) -> bool:
        """Whether a pass is so many operations, one time step after the other, that a look costs dozens of steps."""
        first = self.probes[0] if self.probes else None
        return first is not None and bool(first.temporal) and len(first.operations) > MANY

    def _look(self, model: nn.Module, batches: list[Any], step: int) -> None:
        counts = step in self._counting or step >= self.steps
        self.probes.append(
            probe(model, lambda m, b: loss_of(self.recipe, m, b), batches, step=step, through_time=counts)
        )
        if self.logbook:
            self.logbook.look(self.probes[-1])


class _Norms:
    """Norms of one step after another; they stay on the device until they are read."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._pending: list[torch.Tensor] = []

    def append(self, norm: torch.Tensor) -> None:
        self._pending.append(norm)

    def read(self) -> list[float]:
        if self._pending:
            self._values += torch.stack(self._pending).double().tolist()
            self._pending = []
        return self._values


def total_norm(model: nn.Module) -> torch.Tensor:
    """Norm of all gradients as one vector, on their device."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    dense = [(g.coalesce().values() if g.is_sparse else g).detach() for g in gradients]
    if not dense:
        return torch.zeros((), device=next(model.parameters()).device)
    norms = torch._foreach_norm(dense)  # noqa: SLF001 - one pass over all tensors
    total: torch.Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    return total


def _enough_samples(batches: list[Any]) -> list[Any]:
    """As many batches as hold the samples that a dead unit is judged on."""
    chosen, seen = [], 0
    for batch in batches:
        chosen.append(batch)
        seen += _size(batch)
        if seen >= SAMPLES:
            break
    return chosen


def _size(batch: Any) -> int:
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 1
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)) and batch:
        return _size(batch[0])
    return 1


def _group(optimizer: torch.optim.Optimizer, group: dict[str, Any], names: Mapping[int, str]) -> Group:
    betas = group.get("betas") or (0.0,)
    return Group(
        lr=_number(group.get("lr"), math.nan),
        momentum=_number(group.get("momentum")),
        beta1=_number(betas[0]),
        eps=_number(group.get("eps")),
        weight_decay=_number(group.get("weight_decay")),
        decoupled="AdamW" in type(optimizer).__name__ or bool(group.get("decoupled_weight_decay")),
        modules=tuple(dict.fromkeys(names[id(p)] for p in group["params"] if names.get(id(p)))),
    )


def _number(setting: Any, otherwise: float = 0.0) -> float:
    """Return a setting as a number; what is none (Adafactor's pair of epsilons) is not the setting asked for."""
    return float(setting) if isinstance(setting, (int, float, torch.Tensor)) else otherwise


def _with_updates(look: Probe, before: dict[str, torch.Tensor], model: nn.Module) -> Probe:
    """Add to a probe how far the step after it moved each parameter."""
    after = dict(model.named_parameters())

    def moved(reading: ParameterReading) -> ParameterReading:
        old, new = before.get(reading.name), after.get(reading.name)
        if old is None or new is None or new.grad is None:
            return reading
        change = (new.detach() - old).float()
        gradient = new.grad.to_dense() if new.grad.is_sparse else new.grad
        asked = gradient != 0
        stayed = float(((change == 0) & asked).sum()) / max(float(asked.sum()), 1.0)
        return replace(reading, update=float(torch.linalg.vector_norm(change)), unchanged=stayed)

    return replace(look, parameters=tuple(moved(r) for r in look.parameters))


def worst(readings: Sequence[ActivationReading], key: Callable[[ActivationReading], float]) -> float:
    """Largest value of a figure over the nonlinearities, 0 without any."""
    return max((key(r) for r in readings), default=0.0)
