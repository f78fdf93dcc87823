"""Readings of what the network was given and of what the loss compares with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graddoctor.observe.readings import InputReading

_IMAGE = 4  # axes of a batch of images; its features are channels, on axis 1


@dataclass
class Column:
    """Sums of one tensor of the batch, over the batches seen. Features by axis: the last, of images the channels.

    All is counted from the first observation, ``origin``, so that a feature that never changes has deviation 0 exactly.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    count: int = 0
    origin: Tensor | None = None
    mean: Tensor | None = None
    scatter: Tensor | None = None
    absmax: float = 0.0
    nonfinite: int = 0

    def add(self, values: Tensor) -> None:
        """Merge another batch's tensor (Chan's update: exact for means far from zero)."""
        values = values.detach()
        if values.numel() == 0 or values.is_nested:
            return
        if values.layout is not torch.strided:
            values = values.to_dense()
        rows = _features(values.double() if not values.is_complex() else values.abs().double())
        finite = rows.isfinite()
        self.nonfinite += int((~finite).sum())
        if not bool(finite.all()):
            rows = torch.where(finite, rows, 0.0)
        self.absmax = max(self.absmax, float(rows.abs().max()))
        if self.origin is None or self.mean is None or self.scatter is None or self.origin.shape != rows[0].shape:
            self.origin = rows[0].clone()
            mean = (rows - self.origin).mean(0)
            self.count, self.mean, self.scatter = len(rows), mean, (rows - self.origin - mean).square().sum(0)
            return
        mean = (rows - self.origin).mean(0)
        scatter = (rows - self.origin - mean).square().sum(0)
        both = self.count + len(rows)
        step = mean - self.mean
        self.scatter = self.scatter + scatter + step.square() * self.count * len(rows) / both
        self.mean = self.mean + step * len(rows) / both
        self.count = both

    def reading(self) -> InputReading:
        """Turn the sums into numbers."""
        if self.origin is None or self.mean is None or self.scatter is None:
            return InputReading(self.name, self.role, self.shape, self.dtype, math.nan, math.nan, 0.0, (0.0, 0.0), 0)
        stds = (self.scatter / self.count).sqrt()
        within = (self.scatter / self.count).mean()
        means = self.origin + self.mean
        mean = means.mean()
        between = (means - mean).square().mean()
        moving = stds[stds > 0]
        lowest, highest = (float(moving.min()), float(moving.max())) if len(moving) else (0.0, 0.0)
        return InputReading(
            self.name, self.role, self.shape, self.dtype, float(mean), float((within + between).sqrt()), self.absmax,
            (lowest, highest), self.nonfinite,
        )  # fmt: skip


def _features(values: Tensor) -> Tensor:
    """As (observations, features)."""
    if values.dim() <= 1:
        return values.reshape(-1, 1)
    if values.dim() >= _IMAGE:
        return values.movedim(1, -1).reshape(-1, values.shape[1])
    return values.reshape(-1, values.shape[-1])


def column(name: str, role: str, tensor: Tensor) -> Column:
    """Start the sums of one tensor."""
    return Column(name, role, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def merge(columns: dict[str, Column], named: Sequence[tuple[str, str, Tensor]]) -> None:
    """Add one batch: name, role and values of its tensors."""
    for name, role, tensor in named:
        columns.setdefault(name, column(name, role, tensor)).add(tensor)
