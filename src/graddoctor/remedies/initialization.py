"""Re-initialise a network at the scale that its own activations ask for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from statistics import median

import torch
from torch import nn
from torch.nn.utils import parametrize

from graddoctor.errors import GraddoctorError
from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.survey import Survey, WeightRole, survey
from graddoctor.terms import Cause
from graddoctor.theory.criticality import CriticalInit, gain
from graddoctor.train import BatchSource, network_of

_SOUND_SCALE = (0.05, 20.0)  # a gain outside, as a share of the one asked for: something unseen multiplies the weights
_SEED_SHIFT = 7919
_FARTHEST = 3.0
_LARGE = 1 << 20  # entries from which on orthogonal and Gaussian draws hardly differ, and only one is cheap


def target_of(role: WeightRole | None, fallback: str = "") -> tuple[float, float]:
    """Return (σ_w, σ_b) for a weight from the nonlinearity that its product runs into.

    σ_w is the standard deviation times √fan_in. Products that meet no nonlinearity, or a normalization, keep their
    input's variance (σ_w = 1).
    """
    follower = role.follower if role else fallback
    try:
        critical: CriticalInit = gain(follower)
    except GraddoctorError:
        return 1.0, 0.0
    return critical.weight_std, critical.bias_std


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
    if value.ndim == 1 and short == "weight" and hasattr(module, "eps"):
        return abs(math.log10(max(size, 1e-12)))
    return None


def reinitialised(only: Collection[str] | None = None) -> Remedy:
    """Start again at criticality: the right gain for the activation that follows each weight, biases at zero.

    Weights that end a residual branch are scaled by 1/√branches, embeddings by 1/√width; normalizations start at one.
    Gains that are still off by a factor of twenty on real data are corrected, which catches factors that no weight
    shows. ``only`` limits it to some modules.

    Source: He et al. 2015; Schoenholz et al. 2017; for residual branches Zhang et al. 2019 and Radford et al. 2019.
    """

    def change(recipe: Recipe) -> Recipe:
        build = recipe.model

        def model(seed: int = recipe.seed) -> nn.Module:
            net = network_of(build, seed)
            return _start_again(recipe, net, seed, only)

        return recipe.with_(model=model)

    where = tuple(only or ())
    name = "re-initialised" if only is None else f"re-initialised: {', '.join(where)}"
    return Remedy(name, (Cause.INITIALIZATION,), change, "He et al. 2015; Schoenholz et al. 2017", modules=where)


def _start_again(recipe: Recipe, net: nn.Module, seed: int, only: Collection[str] | None) -> nn.Module:
    batch = BatchSource(recipe).first(1)[0]
    net.to(recipe.device).train()
    seen = survey(recipe, net, batch)
    start = _Start(seen, torch.Generator().manual_seed(seed + _SEED_SHIFT))
    with torch.no_grad():
        for prefix, module in net.named_modules():
            wanted = only is None or any(prefix == name or prefix.startswith(name + ".") for name in only)
            if wanted and ".parametrizations." not in f".{prefix}.":
                start.module(prefix, module)
    if not seen.normalizations:
        _pull_to_scale(recipe, net, batch, seen)
    return net


class _Start:
    """Draws the parameters of one module after another."""

    def __init__(self, seen: Survey, generator: torch.Generator) -> None:
        self.seen, self.generator = seen, generator
        self.usual = max(seen.hidden, key=seen.hidden.count) if seen.hidden else ""

    def module(self, prefix: str, module: nn.Module) -> None:
        """Start a module's own parameters again."""
        if parametrize.is_parametrized(module, "weight"):
            self._parametrised(module)
        for short, parameter in module.named_parameters(recurse=False):
            role = self.seen.weights.get(f"{prefix}.{short}" if prefix else short)
            if isinstance(module, nn.Embedding):
                self._normal(parameter, 1 / math.sqrt(parameter.shape[-1]))
            elif role is not None or (parameter.ndim > 1 and short.startswith("weight")):
                self._weight(parameter, role)
            elif parameter.ndim == 1 and "bias" in short:
                parameter.zero_()
            elif parameter.ndim == 1 and short == "weight" and hasattr(module, "eps"):
                parameter.fill_(1.0)
        if isinstance(module, nn.modules.batchnorm._NormBase):  # noqa: SLF001 - the base of all that keep statistics
            module.reset_running_stats()

    def _weight(self, weight: torch.Tensor, role: WeightRole | None) -> None:
        fan_in = role.fan_in if role else math.prod(weight.shape[1:])
        std = target_of(role, self.usual)[0] / math.sqrt(max(fan_in, 1))
        if role is not None and role.branch_end:
            std /= math.sqrt(max(self.seen.branches, 1))
        if weight.numel() > _LARGE:
            self._normal(weight, std)
        else:
            self._orthogonal(weight, std)

    def _parametrised(self, module: nn.Module) -> None:
        """Start a weight again that is computed from others (weight norm and the like), through its right inverse."""
        weight = module.weight
        assert isinstance(weight, torch.Tensor)  # noqa: S101 - it is parametrised
        fresh = weight.detach().clone()
        self._weight(fresh, None)
        module.weight = fresh

    def _normal(self, parameter: torch.Tensor, std: float) -> None:
        values = torch.randn(parameter.shape, generator=self.generator) * std
        parameter.copy_(values.to(parameter.dtype))

    def _orthogonal(self, parameter: torch.Tensor, std: float) -> None:
        """Orthogonal rows where shapes allow, with the standard deviation asked for (Saxe et al. 2014)."""
        values = torch.empty(parameter.shape)
        nn.init.orthogonal_(values, generator=self.generator)
        values *= std / max(float(values.square().mean().sqrt()), 1e-12)
        parameter.copy_(values.to(parameter.dtype))


def _pull_to_scale(recipe: Recipe, net: nn.Module, batch: object, seen: Survey) -> None:
    """Divide a weight by its measured gain where that is far from the one asked for (Mishkin and Matas 2016)."""
    low, high = _SOUND_SCALE
    parameters = dict(net.named_parameters())
    for _ in range(len(seen.weights)):
        gains = _gains(survey(recipe, net, batch))
        off = next((name for name, value in gains.items() if not low < value < high and 0 < value < math.inf), None)
        if off is None or off not in parameters:
            return
        with torch.no_grad():
            parameters[off].div_(gains[off])


def _gains(seen: Survey) -> dict[str, float]:
    """Measured gain of each weight as a share of the one asked for.

    The first weight is judged by the size of its product, as if it were given values of unit size: whatever scales the
    input is in its hands. So are all where the size drifts tenfold from most layers to the next, since a factor then
    stands where no weight's own gain shows it, behind an activation. A single layer that loses much does so by chance.
    """
    roles = list(seen.weights.values())
    drifts = [abs(math.log10(b.size / a.size)) for a, b in itertools.pairwise(roles) if a.size > 0 and b.size > 0]
    drifting = len(drifts) > 1 and median(drifts) > 1
    return {
        role.name: (role.size if drifting or role is roles[0] else role.gain) / target_of(role)[0] for role in roles
    }
