"""Start a network again at the scale that its own activations ask for, drawn in one of the ways that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Literal

import torch
from torch import nn

from graddoctor.observe._parameters import identical
from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import changed
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.measured_start import SEED_SHIFT, critical_plan, lsuv, small_output
from graddoctor.remedies.plain.weights import initialise
from graddoctor.remedies.reading import Reading, read
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.residual_start import zero_branches
from graddoctor.remedies.slots import Slot, normalizes, slots, within
from graddoctor.remedies.starts import (
    Entry,
    critical_entry,
    deep_and_plain,
    drawn,
    grouped,
    plan_of,
    started,
    target,
)
from graddoctor.remedies.survey import Survey, WeightRole
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, network_of

_FARTHEST = 3.0
_ALIKE = 0.9  # share of a layer's units that equal another one
_COPIES = 4  # a matrix with more rows than so many times its columns makes copies rather than features
_RECTIFIERS = frozenset(
    {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus"}
)


def target_of(role: WeightRole | None, fallback: str = "") -> tuple[float, float]:
    """Return (σ_w, σ_b) for a weight from the nonlinearity that its product runs into.

    σ_w is the standard deviation times √fan_in. Products that meet no nonlinearity, or a normalization, keep their
    input's variance (σ_w = 1).
    """
    return target(role.activation if role else fallback)


def deviation(model: nn.Module, seen: Survey) -> dict[str, float]:
    """How far each module's parameters are from where they should start, in decades (0 to 3).

    A scale that is off by a factor of ten counts one, and so does a bias of nine. Embeddings may have any scale from
    1/√width to 1, gains of normalizations should be one.
    """
    score: dict[str, float] = {}
    for prefix, module in model.named_modules():
        for short, parameter in module.named_parameters(recurse=False):
            role = seen.weights.get(f"{prefix}.{short}" if prefix else short)
            off = _off(module, short, parameter.detach().float(), role)
            if off is not None:
                score[prefix] = max(score.get(prefix, 0.0), min(off, _FARTHEST) if math.isfinite(off) else _FARTHEST)
    return score


def _off(module: nn.Module, short: str, value: torch.Tensor, role: WeightRole | None) -> float | None:
    """Decades between one parameter and where it should start; ``None`` where nothing can be said."""
    size = float(value.square().mean().sqrt()) if value.numel() else 0.0
    if isinstance(module, nn.Embedding):
        return max(0.0, math.log10(max(size, 1e-12)), -math.log10(max(size * math.sqrt(value.shape[-1]), 1e-12)))
    if role is not None and value.numel() > 1:
        wanted = target_of(role)[0] / math.sqrt(max(role.fan_in, 1))
        return abs(math.log10(max(float(value.std()), 1e-12) / wanted))
    if value.ndim == 1 and short.endswith("bias"):
        return math.log10(1 + size)
    if value.ndim == 1 and short == "weight" and normalizes(module):
        return abs(math.log10(max(size, 1e-12)))
    return None


def reinitialised(only: Collection[str] | None = None) -> Remedy:
    """`critical`, worked out anew for whatever recipe it is applied to, as experiments need it.

    Source: He et al. 2015; Schoenholz et al. 2017; for residual branches Zhang et al. 2019 and Radford et al. 2019.
    """

    def change(recipe: Recipe) -> Recipe:
        build = recipe.model

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed).to(recipe.device).train()
            plan, more = critical_plan(recipe, net, BatchSource(recipe).first(1)[0], seed + SEED_SHIFT, only)
            with seeded(seed + SEED_SHIFT):
                initialise(net, plan)
                for edit in more:
                    changed(net, edit)
                return net

        return recipe.with_(model=model)

    where = tuple(only or ())
    name = "re-initialised" if only is None else f"re-initialised: {', '.join(where)}"
    return Remedy(name, (Cause.INITIALIZATION,), change, "He et al. 2015; Schoenholz et al. 2017", modules=where)


def critical(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Start at criticality: the right gain for the activation that follows each weight.

    Weights are orthogonal where that is affordable, those that end a residual branch scaled by 1/√branches; embeddings
    have a spread of 1/√width, normalizations start at one, biases at zero, or at the spread that a plain stack of a
    smooth activation needs. Gains that are still off by a factor of twenty on real data are corrected, which catches
    factors that no weight shows.

    Parameters
    ----------
    only
        Modules, or parameters, to which it is limited.

    Source: He et al. 2015; Schoenholz et al. 2017; for residual branches Zhang et al. 2019 and Radford et al. 2019.
    """
    net = build_model(facts.recipe)
    plan, more = critical_plan(facts.recipe, net, facts.batch, facts.recipe.seed + SEED_SHIFT, only)
    return started("critical initialization", plan, "He et al. 2015; Schoenholz et al. 2017", only, more=more)


def he(facts: Facts, only: Collection[str] | None = None, *, fan: Literal["in", "out"] = "in") -> Remedy | None:
    """Gaussian weights whose variance keeps the signal (fan-in) or the gradient (fan-out), each for what follows it.

    For networks with rectifiers; `xavier` is for others. A variance of 2/fan is right for ReLU alone: GELU, SELU, or
    no activation at all, have their own.

    Source: He et al. 2015.
    """
    if not _kinds(facts) & _RECTIFIERS:
        return None

    def entry(slot: Slot) -> Entry:
        return "normal", target(slot.follower)[0] / math.sqrt(slot.fan_in if fan == "in" else slot.fan_out)

    return _everywhere(facts, f"He initialization (fan-{fan})", "He et al. 2015", entry, only)


def xavier(facts: Facts, only: Collection[str] | None = None, *, uniform: bool = False) -> Remedy | None:
    """Weights of variance 2/(fan-in + fan-out), times what the activation that follows asks for.

    For networks without rectifiers, for which there is `he`.

    Source: Glorot and Bengio 2010.
    """
    kinds = _kinds(facts)
    if not kinds or kinds & _RECTIFIERS:
        return None

    def entry(slot: Slot) -> Entry:
        std = target(slot.follower)[0] * math.sqrt(2 / (slot.fan_in + slot.fan_out))
        return ("uniform", std * math.sqrt(3)) if uniform else ("normal", std)

    name = f"Xavier initialization ({'uniform' if uniform else 'normal'})"
    return _everywhere(facts, name, "Glorot and Bengio 2010", entry, only)


def orthogonal(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Orthogonal weights that keep the norm of a signal, and not its variance, where they change its width.

    Then the singular values of the whole network's Jacobian begin near one. Rectifiers cannot have that (Pennington et
    al. 2017), so that networks with them are left to `critical`, and so are those where it is the same.

    Source: Saxe et al. 2014.
    """
    kinds = _kinds(facts)
    if not kinds or kinds & _RECTIFIERS:
        return None

    def entry(slot: Slot) -> Entry:
        rows, columns = slot.value.shape[0] // slot.stacked, slot.value[0].numel()
        return drawn(slot, target(slot.follower)[0] / math.sqrt(max(rows, columns)))

    weights = [slot for slot in slots(facts.model, _read(facts), only) if slot.kind == "weight"]
    if all(math.isclose(entry(slot)[1], critical_entry(slot)[1]) for slot in weights):
        return None
    return _everywhere(facts, "orthogonal initialization", "Saxe et al. 2014", entry, only)


def delta_orthogonal(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Convolutions with odd kernels begin as one orthogonal matrix at the centre of the kernel, the rest critical.

    A convolution of few channels into many, as the first often is, is left as `critical` has it: of one pixel a matrix
    would make copies. It is not for networks with normalization, which do not need it.

    Source: Xiao et al. 2018.
    """
    reading = _read(facts)
    if reading.normalized or not any(_has_centre(slot) for slot in slots(facts.model, reading, only)):
        return None

    def entry(slot: Slot) -> Entry:
        if not _has_centre(slot):
            return critical_entry(slot)
        return "delta_orthogonal", target(slot.follower)[0] / math.sqrt(slot.value.shape[1])

    return _everywhere(facts, "delta-orthogonal initialization", "Xiao et al. 2018", entry, only)


def _has_centre(slot: Slot) -> bool:
    module = slot.module
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or module.groups > 1 or slot.kind != "weight":
        return False
    rows, columns, *kernel = slot.value.shape
    return max(kernel) > 1 and all(size % 2 for size in kernel) and _COPIES * columns >= rows


def symmetry_broken(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Draw anew the weights whose units all begin alike: they would get the same gradient and stay alike.

    Zeros that end a residual branch, or make the output, are meant so where nothing else is alike.
    """
    found = slots(facts.model, _read(facts))
    weights = [slot for slot in found if slot.kind in {"weight", "embedding"}]
    alike = [slot for slot in weights if identical(_units(slot)) >= _ALIKE]
    stuck = [slot for slot in alike if not (slot.branch_end or slot is weights[-1])]
    chosen = [slot for slot in alike if stuck and not (slot.branch_end and not slot.value.any())]
    chosen = [slot for slot in chosen if only is None or any(within(slot.name, name) for name in only)]
    return started("symmetry broken", grouped(plan_of(chosen)), "Goodfellow et al. 2016, section 8.4", only)


def _units(slot: Slot) -> torch.Tensor:
    """A weight with what makes one unit in each row."""
    transposed = slot.kind == "weight" and slot.value.ndim == 2 and slot.fan_in != slot.value.shape[1]  # noqa: PLR2004
    return slot.value.t() if transposed else slot.value


def _read(facts: Facts) -> Reading:
    return read(facts.recipe, facts.model, facts.batch)


def _kinds(facts: Facts) -> set[str]:
    """Nonlinearities that weights run into, without their settings; empty where there are no weights."""
    found = slots(facts.model, _read(facts))
    return {slot.follower.partition("(")[0] for slot in found if slot.kind == "weight"}


def _everywhere(
    facts: Facts, name: str, source: str, entry: Callable[[Slot], Entry], only: Collection[str] | None
) -> Remedy | None:
    reading = _read(facts)
    plan = plan_of(slots(facts.model, reading, only), entry, noisy_biases=deep_and_plain(reading))
    return started(name, grouped(plan), source, only)


INITIALIZATIONS = (
    critical,
    symmetry_broken,
    small_output,
    zero_branches,
    lsuv,
    delta_orthogonal,
    orthogonal,
    he,
    xavier,
)
"""Every start, in the order in which they are tried: what fits most networks, what is right for some, the classics."""
