"""Starts that are measured on the recipe's first batch: gains pulled to scale, unit variances, a quiet output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import median
from typing import Any

import torch
from torch import nn

from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.attention import quiet_factors
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import LINEAR, name_of, tensors_in
from graddoctor.remedies.plain.weights import initialise
from graddoctor.remedies.reading import Reading, bare, read
from graddoctor.remedies.recurrent import carriers
from graddoctor.remedies.recurrent_start import recurrent_edits
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import partner, slots
from graddoctor.remedies.starts import (
    Entry,
    Plan,
    critical_entry,
    deep_and_plain,
    drawn,
    grouped,
    plan_of,
    started,
    target,
    times,
)
from graddoctor.remedies.survey import Reader, read_forward
from graddoctor.train import build_model, loss_of

SEED_SHIFT = 7919
"""Starts are measured on a draw of their own, which no part of the recipe sees again."""

_SOUND_SCALE = (0.05, 20.0)  # a gain outside, as a share of the one asked for: something unseen multiplies the weights
_ROUNDS, _NEAR = 10, 0.02  # of LSUV for one weight
_LOUD = 5.0  # a first loss of so many times the constant predictor's is far too large
_QUIET = 0.1  # and one that exceeds it by this share is not
_FACTORS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)


def critical_plan(
    recipe: Recipe, net: nn.Module, batch: Any, seed: int, only: Collection[str] | None = None
) -> tuple[dict[Any, Entry], tuple[Edit, ...]]:
    """Plan a start at criticality, measured on a batch.

    Parameters
    ----------
    net
        The network as built. It is started by the plan, drawn from `seed`, and left so.

    Returns
    -------
    The plan, and what a recurrence asks for beside it: gates that start open, states around zero.
    """
    reading = read(recipe, net, batch)
    plan = plan_of(slots(net, reading, only), noisy_biases=deep_and_plain(reading))
    with seeded(seed):
        initialise(net, plan)
    plan = _with_quiet_attention(recipe, net, batch, plan)
    if not reading.normalized:
        found = [slot for slot in slots(net, reading) if slot.seen and not slot.recurrent]
        wanted = {slot.name: target(slot.follower)[0] * slot.share for slot in found}
        plan = _pulled_to_scale(recipe, net, batch, plan, wanted)
    more = recurrent_edits(net, reading, carriers(recipe, net, batch, reading), plan, only)
    return grouped(plan), more


def _with_quiet_attention(recipe: Recipe, net: nn.Module, batch: Any, plan: Plan) -> Plan:
    """Scale queries and keys down where nothing divides their products by the root of their width, as in T5."""
    try:
        factors = quiet_factors(recipe, net, batch, set(plan))
    except Exception:  # noqa: BLE001 - what cannot be looked at is started as its weights ask for
        return plan
    return plan | {name: times(plan[name], factor) for name, factor in factors.items()}


def _pulled_to_scale(recipe: Recipe, net: nn.Module, batch: Any, plan: Plan, wanted: Mapping[str, float]) -> Plan:
    """Divide a weight by its measured gain where that is far from the one asked for (Mishkin and Matas 2016)."""
    low, high = _SOUND_SCALE
    for _ in wanted:
        gains = _gains(read(recipe, net, batch), wanted)
        off = next((name for name, value in gains.items() if not low < value < high and 0 < value < math.inf), None)
        if off is None or off not in plan:
            return plan
        plan[off] = times(plan[off], 1 / gains[off])
        initialise(net, {off: ("scaled", 1 / gains[off])})
    return plan


def _gains(reading: Reading, wanted: Mapping[str, float]) -> dict[str, float]:
    """Measured gain of each weight as a share of the one asked for.

    A weight that meets the data is judged by the size of its product, as if it were given values of unit size: whatever
    scales the input is in its hands. So are all where the size drifts tenfold from most layers to the next, since a
    factor then stands where no weight's own gain shows it, behind an activation. A single layer that loses much does so
    by chance. Of the projections of an attention the last answers for all.
    """
    roles = [role for role in reading.weights.values() if not role.name.endswith("in_proj_weight")]
    roles = [role for role in roles if role.name not in reading.loops]  # given nothing in the first step
    drifts = [abs(math.log10(b.size / a.size)) for a, b in itertools.pairwise(roles) if a.size > 0 and b.size > 0]
    drifting = len(drifts) > 1 and median(drifts) > 1
    return {
        role.name: (role.size if drifting or role.name in reading.first else role.gain) / wanted.get(role.name, 1.0)
        for role in roles
    }


def lsuv(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Layer-sequential unit variance: each weight in turn is scaled until its product has variance one on a batch.

    Products that end a residual branch get 1/branches. It is not for networks with normalization, which do the same at
    every step, nor where the forward pass cannot be read.

    Source: Mishkin and Matas 2016.
    """
    net = build_model(facts.recipe)
    reading = read(facts.recipe, net, facts.batch)
    found = slots(net, reading, only)
    wanted = {slot.name: slot.share for slot in found if slot.seen and not slot.recurrent}
    if not wanted or reading.normalized:
        return None
    plan = plan_of(
        found, lambda slot: critical_entry(slot) if slot.recurrent else drawn(slot, slot.share / math.sqrt(slot.fan_in))
    )
    with seeded(facts.recipe.seed + SEED_SHIFT):
        initialise(net, plan)
    scaler = _Scaler(bare(net), wanted)
    read_forward(facts.recipe, scaler.model, scaler, facts.batch)
    for name, factor in scaler.factors.items():
        plan[name] = times(plan[name], factor)
    return started("LSUV initialization", grouped(plan), "Mishkin and Matas 2016", only)


class _Scaler(Reader):
    """Scales each weight, just before its first product, so that the product has the standard deviation wanted."""

    def __init__(self, model: nn.Module, wanted: Mapping[str, float]) -> None:
        super().__init__(model)
        self.model, self.wanted = model, wanted
        self.parameters = dict(model.named_parameters())
        self.factors: dict[str, float] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if name_of(func) in LINEAR:
            named = [self.sources.get(id(t), self.names.get(id(t), "")) for t in tensors_in([args, kwargs or {}])]
            fresh = [name for name in named if name in self.wanted and name not in self.factors]
            if fresh:
                self.factors |= dict.fromkeys(fresh, 1.0)
                self._scale(fresh[-1], lambda: func(*args, **(kwargs or {})))
        return super().__torch_function__(func, types, args, kwargs)

    @torch.no_grad()
    def _scale(self, name: str, product: Callable[[], Any]) -> None:
        for _ in range(_ROUNDS):
            std = float(tensors_in(product())[0].float().std())
            factor = self.wanted[name] / std if std > 0 and math.isfinite(std) else 1.0
            self.factors[name] *= factor
            self.parameters[name].mul_(factor)
            if abs(factor - 1) < _NEAR:
                return


def small_output(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Scale the last weight down until the first loss is that of a constant predictor.

    Only where the first loss is more than five times as large. The scale is the largest power of a tenth that does it;
    the bias is set to zero where the weight is not to blame, or not alone.

    Source: Karpathy 2019, A recipe for training neural networks; Zhang et al. 2019 begin with a zero output.
    """
    weight, bias = _output_names(facts, only)
    if not weight:
        return None
    start, flat = (_first_loss(facts, plan) for plan in ({}, _silent(weight, bias)))
    scale = max(abs(flat), 1e-12)
    if not math.isfinite(flat) or start - flat <= (_LOUD - 1) * scale:
        return None
    biases: Plan = {bias: ("constant", 0.0)} if bias else {}
    scalings: list[Plan] = [{weight: ("scaled", factor)} for factor in _FACTORS]
    tried = [*([biases] if biases else []), *scalings, *({**one, **biases} for one in scalings if biases)]
    plan = next((plan for plan in tried if _first_loss(facts, plan) - flat <= _QUIET * scale), None)
    return started("small output layer", plan, "Karpathy 2019; Zhang et al. 2019", only) if plan else None


def _silent(weight: str, bias: str) -> Plan:
    quiet: Plan = {weight: ("scaled", 1e-12)}  # a normalised weight has no direction at zero
    return quiet | ({bias: ("constant", 0.0)} if bias else {})


def _first_loss(facts: Facts, plan: Plan) -> float:
    """Loss of the first batch after a change; infinite where it is not finite."""
    with seeded(facts.recipe.seed), torch.enable_grad():
        loss = float(loss_of(facts.recipe, initialise(build_model(facts.recipe), plan), facts.batch).detach())
    return loss if math.isfinite(loss) else math.inf


def _output_names(facts: Facts, only: Collection[str] | None) -> tuple[str, str]:
    """Weight whose product is the output, or else the last one used, and its bias; ``""``: none."""
    try:
        net = bare(build_model(facts.recipe))
        reader = Reader(net)
        output = read_forward(facts.recipe, net, reader, facts.batch)
    except Exception:  # noqa: BLE001 - what cannot be read has no last weight that could be named
        return "", ""
    found = {slot.name: slot for slot in slots(build_model(facts.recipe), Reading(reader.survey(output)), only)}
    ends = [name for name in (*reader.weights, *reader.open.get(id(output), ())) if name in found]
    if not ends or ends[-1] != [*reader.weights, *reader.open.get(id(output), ())][-1]:
        return "", ""
    return ends[-1], next((n for n, s in found.items() if s.kind == "bias" and partner(n) == ends[-1]), "")
