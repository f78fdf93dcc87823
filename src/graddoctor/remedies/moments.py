"""How large inputs and targets are: means, deviations, and what in a batch is a target at all."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import nn

from graddoctor.nested import Path, leaves, mapped_with_path
from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import wrap_forward
from graddoctor.train import BatchSource, build_model, loss_of

_BATCHES = 32
_REACH = 10.0
"""No standardised value lies further out than so many standard deviations: a feature that hardly varies stays small."""

_FEATURES = 256
"""Above so many features one mean and one deviation serve for all: nobody reads longer lists."""

_ALIKE = 4.0
_SMALLEST, _LARGEST = 0.1, 10.0
_OFFSET = 3.0
_DIGITS = 6
_IMAGE = 4  # batch, channel, height, width

_OFTEN = 3

_Key = tuple[int | None, str | None]
Moments = tuple[torch.Tensor, torch.Tensor]
"""Mean and standard deviation."""


@dataclass(frozen=True)
class Running:
    """Sums over all that was seen, by feature, float64; what is not finite is left out.

    Attributes
    ----------
    trailing
        How many axes come after that of the features.
    origin
        What the sums are taken about, of shape (features,), so that nothing cancels.
    count, total, squares, low, high
        How many values, their sum and sum of squares about the origin, the smallest and the largest.
    """

    trailing: int
    origin: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, value: torch.Tensor, missing: float | None = None) -> Running:
        """Sum up a tensor but for what is `missing`: features are its last axis, of images the channels."""
        image = value.ndim >= _IMAGE
        rows = value.detach().movedim(1, -1) if image else value.detach()
        flat = rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1).cpu().double()
        known = flat.isfinite() & (flat != missing) if missing is not None else flat.isfinite()
        count = known.sum(0).double()
        origin = torch.where(known, flat, 0.0).sum(0) / count.clamp_min(1)
        shifted = torch.where(known, flat - origin, 0.0)
        return cls(
            value.ndim - 2 if image else 0,
            origin,
            count,
            shifted.sum(0),
            shifted.square().sum(0),
            torch.where(known, flat, math.inf).amin(0),
            torch.where(known, flat, -math.inf).amax(0),
        )

    def plus(self, other: Running) -> Running:
        """Return the sums over both; a last axis of another length makes one feature of all."""
        if len(self.count) != len(other.count):
            return self.together().plus(other.together())
        shift = other.origin - self.origin
        return Running(
            self.trailing,
            self.origin,
            self.count + other.count,
            self.total + other.total + other.count * shift,
            self.squares + other.squares + 2 * shift * other.total + other.count * shift.square(),
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )

    def together(self) -> Running:
        """Return the same as if there were one feature."""
        origin = self.origin.mean()
        shift = self.origin - origin
        return Running(
            self.trailing,
            origin[None],
            self.count.sum()[None],
            (self.total + self.count * shift).sum()[None],
            (self.squares + 2 * shift * self.total + self.count * shift.square()).sum()[None],
            self.low.amin()[None],
            self.high.amax()[None],
        )

    @property
    def mean(self) -> torch.Tensor:
        """Mean of each feature."""
        return self.origin + self.total / self.count.clamp_min(1)

    @property
    def spread(self) -> torch.Tensor:
        """Standard deviation of each feature; 0 where it never varies."""
        mean = self.total / self.count.clamp_min(1)
        variance = (self.squares - self.count * mean.square()) / (self.count - 1).clamp_min(1)
        return torch.where(self.high > self.low, variance.clamp_min(0).sqrt(), 0.0)

    @property
    def moments(self) -> Moments:
        """Mean, and the deviation to divide by: never so small that a value would lie far out, 1 for a constant."""
        reach = torch.maximum(self.high - self.mean, self.mean - self.low) / _REACH
        std = torch.maximum(self.spread, reach)
        return self.mean, torch.where(self.spread > 0, std, 1.0)

    @property
    def ordinary(self) -> bool:
        """Whether a network can take it as it is: of about unit spread, no feature far larger, none far from zero."""
        varies = self.spread > 0
        if not bool(varies.any()):
            return True
        spread, mean = self.spread[varies], self.mean[varies]
        typical = float(spread.square().mean().sqrt())
        furthest = float(torch.maximum(self.high, -self.low).max())
        return (
            typical >= _SMALLEST
            and float(spread.max()) <= _LARGEST
            and float(mean.square().mean().sqrt()) <= _OFFSET * typical
            and furthest <= 2 * _LARGEST
        )


@dataclass(frozen=True)
class InputScale:
    """One floating input of a network, by position and keyword, and its moments.

    Attributes
    ----------
    seen
        All that is finite, but for what is missing.
    missing
        A number that stands for a missing value.
    nan_is_missing
        Whether there are NaN that make the loss one.
    ordinary
        Whether a network can take it as it is.
    """

    position: int | None
    keyword: str | None
    seen: Running
    missing: float | None
    nan_is_missing: bool
    ordinary: bool

    @classmethod
    def of(cls, key: _Key, values: list[torch.Tensor], *, lost: bool) -> InputScale:
        """Measure one input; `lost` says that a loss was not finite."""
        whole = reduce(Running.plus, map(Running.of, values))
        nan = lost and any(bool(value.isnan().any()) for value in values)
        missing = _sentinel(whole, values)
        seen = whole if missing is None else _without(values, missing)
        return cls(*key, seen, missing, nan, whole.ordinary and not nan)

    def literals(self) -> tuple[float | list[float], float | list[float]]:
        """Mean and deviation as numbers to write down: one a feature where features differ and are not too many."""
        mean, std = self.seen.moments
        if len(std) == 1 or len(std) > _FEATURES or self._alike(mean, std):
            mean, std = self.seen.together().moments
        pairs = [rounded(*pair) for pair in zip(mean.tolist(), std.tolist(), strict=True)]
        means, stds = ([pair[k] for pair in pairs] for k in (0, 1))
        return (means[0], stds[0]) if len(pairs) == 1 else (means, stds)

    def _alike(self, mean: torch.Tensor, std: torch.Tensor) -> bool:
        varies = self.seen.spread > 0
        if not bool(varies.any()):
            return False
        low, high = float(std[varies].min()), float(std[varies].max())
        return high <= _ALIKE * low and float(mean.max() - mean.min()) <= low


def _without(values: list[torch.Tensor], missing: float) -> Running:
    return reduce(Running.plus, (Running.of(value, missing) for value in values))


def _sentinel(whole: Running, values: list[torch.Tensor]) -> float | None:
    """A number far from all others that occurs too often to be a measurement, such as -999."""
    if whole.ordinary:
        return None
    for candidate in (float(whole.low.min()), float(whole.high.max())):
        rest = _without(values, candidate)
        often = float(whole.count.sum() - rest.count.sum())
        if often < _OFTEN or not bool((rest.spread > 0).any()):
            continue
        lowest, highest = float(rest.low.min()), float(rest.high.max())
        if max(lowest - candidate, candidate - highest) > 2 * (highest - lowest):
            return candidate
    return None


def rounded(mean: float, std: float) -> tuple[float, float]:
    """Six significant digits; of a mean as many more as its deviation needs."""
    std = float(f"{std:.{_DIGITS}g}")
    needed = math.ceil(math.log10(max(abs(mean) / std, 1.0))) + _DIGITS - 2
    return float(f"{mean:.{max(_DIGITS, min(needed, 2 * _DIGITS))}g}"), std


def input_scales(recipe: Recipe) -> list[InputScale]:
    """Measure every floating tensor that the loss hands to the network, over the recipe's first batches."""
    seen: dict[_Key, list[torch.Tensor]] = {}
    model = build_model(recipe)
    names = _positional(model)

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given: dict[_Key, Any] = {(k, names[k] if k < len(names) else None): value for k, value in enumerate(args)}
        given |= {(names.index(name) if name in names else None, name): value for name, value in kwargs.items()}
        for key, value in given.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                seen.setdefault(key, []).append(value.detach().clone())

    model.register_forward_pre_hook(look, with_kwargs=True)
    with seeded(recipe.seed), torch.enable_grad():  # losses may want gradients of their own
        losses = [loss_of(recipe, model, batch).detach() for batch in BatchSource(recipe).first(_BATCHES)]
    lost = not all(bool(loss.isfinite().all()) for loss in losses)
    return [InputScale.of(key, values, lost=lost) for key, values in seen.items()]


def _positional(model: nn.Module) -> list[str]:
    """Names of the arguments that may be given by position."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def target_moments(recipe: Recipe) -> dict[Path, Moments]:
    """Mean and standard deviation, over all entries, of the floating tensors of a batch that the network is not given.

    Returns
    -------
    By the way to the tensor in a batch, as `graddoctor.nested.leaves` has it. A tensor that reaches the network after
    some computation (a cast, a reshape, noise) counts as given.
    """
    batches = BatchSource(recipe).first(_BATCHES)
    given = _given(recipe, batches[0])
    found = {}
    for path in (p for p, t in leaves(batches[0]) if t.is_floating_point() and p not in given):
        running = reduce(Running.plus, (Running.of(value.reshape(-1)) for value in _values(batches, path)))
        if bool(running.count.any()):
            found[path] = (running.mean[0], running.spread[0].clamp_min(1e-12))
    return found


def _values(batches: list[Any], path: Path) -> Iterator[torch.Tensor]:
    return (tensor for batch in batches for p, tensor in leaves(batch) if p == path)


def _given(recipe: Recipe, batch: Any) -> set[Path]:
    """Which floating tensors of a batch reach the network: by the gradient that would flow back to them."""
    handed: list[torch.Tensor] = []

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        handed.extend(tensor for _, tensor in leaves((args, kwargs)))
        return forward(*args, **kwargs)

    def traced(path: Path, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        roots[path] = tensor.detach().requires_grad_()
        twins[path] = roots[path].clone()  # no leaf: it may be written to
        return twins[path]

    roots: dict[Path, torch.Tensor] = {}
    twins: dict[Path, torch.Tensor] = {}
    model = wrap_forward(build_model(recipe), wrapper)
    with seeded(recipe.seed), torch.enable_grad():
        loss_of(recipe, model, mapped_with_path(traced, batch))
        memory = {tensor.untyped_storage().data_ptr() for tensor in handed if tensor.layout is torch.strided}
        shared = {path for path, twin in twins.items() if twin.untyped_storage().data_ptr() in memory}
        ends = [tensor.float().sum() for tensor in handed if tensor.requires_grad]
        if not ends or not roots:
            return shared
        slopes = torch.autograd.grad(torch.stack(ends).sum(), list(roots.values()), allow_unused=True)
    followed = {path for path, slope in zip(roots, slopes, strict=True) if slope is not None}
    return followed | shared
