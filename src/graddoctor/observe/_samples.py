"""Which axis holds the samples, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LARGE = 16384  # elements from which a cast to float64 is worth avoiding
_PIECE = 4096  # elements that float32 may add up: an error of 1e-7 or less
_SAFE = (1e-12, 1e15)  # norms whose squares float32 holds, with room for uneven elements


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


def norm(values: Tensor) -> Tensor:
    """Frobenius norm as a 0-d float64 tensor, exact to float64 of the values' own squares where that matters.

    Casting a large float32 tensor to float64 costs four times the norm itself. So on the CPU pieces are taken in
    float32 and put together in float64, unless the result is so small or large that squares may have under- or
    overflowed: then float64 throughout.
    """
    if (
        values.dtype is torch.float32
        and values.numel() >= _LARGE
        and values.device.type == "cpu"
        and values.is_contiguous()
    ):
        flat = values.reshape(-1)
        whole = flat.numel() // _PIECE * _PIECE
        pieces = torch.linalg.vector_norm(flat[:whole].view(-1, _PIECE), dim=1)
        rest = torch.linalg.vector_norm(flat[whole:]).reshape(1)
        quick: Tensor = torch.linalg.vector_norm(torch.cat((pieces, rest)), dtype=torch.float64)
        if _SAFE[0] < float(quick) < _SAFE[1]:
            return quick
    exact: Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return exact


def square(values: Tensor) -> Tensor:
    """Sum of squares, a 0-d float64 tensor."""
    return norm(values).square()


def rms(values: Tensor) -> Tensor:
    """Root mean square, a 0-d float64 tensor."""
    result: Tensor = norm(values) / max(values.numel(), 1) ** 0.5
    return result
