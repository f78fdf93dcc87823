"""Which axis holds the samples, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def batch_size(shapes: Sequence[tuple[int, ...]]) -> int:
    """Size of the batch axis, from the shapes of a batch's tensors: the size that they all share (0: there is none)."""
    shapes = [shape for shape in shapes if shape]
    if not shapes:
        return 0
    if len({shape[0] for shape in shapes}) == 1:
        return shapes[0][0]
    common = set.intersection(*(set(shape) for shape in shapes))
    return next((size for size in shapes[0] if size in common), shapes[0][0])


def by_sample(values: Tensor, samples: int) -> Tensor | None:
    """View ``values`` as (samples, rest): the batch axis first, or (batch · time, features) unfolded."""
    shape = values.shape
    if samples <= 0 or values.dim() == 0 or values.numel() == 0:
        return None
    if shape[0] == samples:
        return values.reshape(samples, -1)
    if samples > 1 and samples in shape:
        return values.movedim(tuple(shape).index(samples), 0).reshape(samples, -1)
    return values.reshape(samples, -1) if shape[0] % samples == 0 else None


def spread(values: Tensor, samples: int) -> Tensor | None:
    """Norm of the differences between samples over √numel: ``‖h - mean_batch h‖ / √numel``, a 0-d float64 tensor.

    The first sample is subtracted before anything is averaged: samples that differ in their last bits only are told
    apart from samples that are equal.
    """
    rows = by_sample(values, samples)
    if rows is None or samples < 2:  # noqa: PLR2004 - one sample differs from no other
        return None
    apart = (rows - rows[:1]).to(torch.float32 if rows.element_size() < 4 else rows.dtype)  # noqa: PLR2004 - half types
    squares = square(apart) - samples * square(apart.mean(0))
    return (squares.clamp(min=0) / rows.numel()).sqrt()


def square(values: Tensor) -> Tensor:
    """Sum of squares, a 0-d float64 tensor."""
    return torch.linalg.vector_norm(values, dtype=torch.float64).square()


def rms(values: Tensor) -> Tensor:
    """Root mean square, a 0-d float64 tensor."""
    return torch.linalg.vector_norm(values, dtype=torch.float64) / max(values.numel(), 1) ** 0.5
