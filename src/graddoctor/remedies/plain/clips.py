"""Clip gradients between the backward pass and the step."""

from __future__ import annotations

from collections.abc import Iterable

import torch


@torch.no_grad()
def clip_adaptively(
    parameters: Iterable[torch.Tensor], clipping: float = 0.01, eps: float = 1e-3
) -> None:
    """Bound each unit's gradient by a share of the norm of its weights (Brock et al. 2021).

    A unit is what leads to one output: a row of a matrix, a filter of a convolution. Vectors, such
    as biases, and the last matrix, the output layer, are left alone.
    """
    matrices = [(p, p.grad) for p in parameters if p.ndim >= 2 and p.grad is not None]
    for weight, gradient in matrices[:-1]:
        axes = tuple(range(1, weight.ndim))
        size = torch.linalg.vector_norm(weight, dim=axes, keepdim=True).clamp_min(eps)
        norm = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True)
        gradient.mul_((clipping * size / norm.clamp_min(1e-6)).clamp_max(1.0))
