"""The law of a tensor at initialization: what mean-field theory follows in place of its entries."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

_IMAGE = 4  # axes from which on features lie on the second
_TEXT = 3  # axes of a batch of sequences: (sample, place, feature)


@dataclass(frozen=True)
class Law:
    """Second moments of a tensor's entries, over draws of the weights.

    Attributes
    ----------
    square
        E[h²], float64, with as many axes as the tensor; an axis of length 1 stands for one along which it is the same.
        It may differ from sample to sample and from place to place, never between features.
    mean
        E[h] over features.
    between, along
        E[h_a h_b] of one feature in two samples, and at two places of one sample (positions, pixels).
    channels
        Whether features lie on axis 1, not on the last.
    fixed
        Whether it hardly varies from draw to draw, as a mean over many features does.
    keys
        Of attention's scores and weights: how many places each row may look at.
    focus
        Of attention's weights: E[Σ_k A_k²], between one over the number of keys (it averages) and 1 (it selects).
    """

    square: Tensor
    mean: float = 0.0
    between: float = 0.0
    along: float = 0.0
    channels: bool = False
    fixed: bool = False
    keys: Tensor | None = None
    focus: float | None = None

    @cached_property
    def average(self) -> float:
        """E[h²], over samples and places."""
        return float(self.square.mean())

    @property
    def variance(self) -> float:
        """E[h²] - E[h]²."""
        return max(self.average - self.mean**2, 0.0)

    def scaled(self, factor: float, *, root: float | None = None, shift: float = 0.0) -> Law:
        """Multiply by weights: second moments by ``factor``, the mean by ``root``; ``shift`` is a bias's E[b²]."""
        return replace(
            self,
            square=self.square * factor + shift,
            mean=0.0 if root is None else self.mean * root,
            between=self.between * factor + shift,
            along=self.along * factor + shift,
            keys=None,
            focus=None,
        )

    def shaped(self, shape: tuple[int, ...], *, channels: bool | None = None) -> Law:
        """Give it to a tensor of another shape: what differs between samples is kept where samples stay apart."""
        kept = self.channels if channels is None else channels
        return replace(self, square=reshaped(self.square, shape), channels=kept)


@dataclass(frozen=True)
class Gradient:
    """Second moments of the gradient at a tensor: ``square`` as in `Law`, ``along`` E[g g'] at two places of a sample.

    Only ratios mean anything: the gradient at the network's output is one. ``largest``: it arrives only where an entry
    is the largest of so many, as behind max pooling.
    """

    square: Tensor
    along: float = 0.0
    largest: int = 1

    @cached_property
    def average(self) -> float:
        """E[g²], over all entries."""
        return float(self.square.mean())

    def __add__(self, other: Gradient) -> Gradient:
        """Sum two gradients that know nothing of each other."""
        return Gradient(self.square + other.square, self.along + other.along)

    def scaled(self, factor: float | Tensor, *, along: float | None = None) -> Gradient:
        """Multiply the second moments."""
        whole = float(factor.mean()) if isinstance(factor, Tensor) else factor
        return Gradient(self.square * factor, self.along * (whole if along is None else along))

    def shaped(self, shape: tuple[int, ...]) -> Gradient:
        """Give it to a tensor of another shape and the same entries."""
        return replace(self, square=reshaped(self.square, shape))


def flat(value: float, axes: int) -> Tensor:
    """The same for every sample and place of a tensor with so many axes."""
    return torch.full((1,) * axes, value, dtype=torch.float64)


def reshaped(square: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Average over what the new shape does not keep apart; the first axis is kept where its length is."""
    if len(shape) == square.dim() and all(n in {1, m} for n, m in zip(square.shape, shape, strict=True)):
        return square
    if square.dim() and shape and square.shape[0] in {1, shape[0]}:
        rows = square.reshape(square.shape[0], -1).mean(1)
        return rows.reshape(-1, *(1,) * (len(shape) - 1))
    return flat(float(square.mean()), len(shape))


def measured(tensor: Tensor, samples: int, *, channels: bool | None = None) -> Law:
    """Read a law off a tensor: of inputs, embeddings, constants, and of what theory does not know."""
    values = tensor.detach()
    if values.numel() == 0:
        return Law(flat(0.0, values.dim()), fixed=True)
    values = values.double() if values.numel() < 1 << 20 else values.float()
    if values.dim() == 0:
        value = float(values)
        return Law(flat(value**2, 0), value, value**2, value**2, fixed=True)
    images = values.dim() >= _IMAGE if channels is None else channels and values.dim() > 2  # noqa: PLR2004 - (samples, channels)
    feature = 1 if images else values.dim() - 1
    apart = values.dim() > 1 and values.shape[0] == samples
    texts = apart and not images and values.dim() == _TEXT
    kept = {
        axis for axis in range(values.dim()) if (axis == 0 and apart) or (axis == 1 and texts) or (images and axis > 1)
    }
    keep = sorted(kept - {feature})
    drop = [axis for axis in range(values.dim()) if axis not in keep]
    square = values.square().mean(drop, keepdim=True).double()
    rows = values.reshape(samples, -1) if apart else values.reshape(1, -1)
    places = values.movedim(feature, -1).reshape(len(rows), -1, values.shape[feature])
    average = float(square.mean())
    return Law(
        square=square,
        mean=float(values.mean()),
        between=_pairs(rows[None], average),
        along=_pairs(places, average),
        channels=images,
    )


def _pairs(groups: Tensor, average: float) -> float:
    """Mean product of two different rows (axis 1) of the same group (axis 0)."""
    count, width = groups.shape[1:]
    if count < 2:  # noqa: PLR2004 - no pair
        return average
    total = float(groups.sum(1).square().sum(1).mean()) / width
    return (total - count * average) / (count * (count - 1))


def energy(gradient: Gradient, numel: int) -> float:
    """Squared norm of a gradient."""
    return gradient.average * numel


def norm(squared: float) -> float:
    """Root of a squared norm; ``nan`` where there is none."""
    return math.sqrt(squared) if squared >= 0 else math.nan
