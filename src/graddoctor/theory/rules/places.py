"""Maps of second moments over samples and places, as views and selections move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graddoctor.theory.laws import reshaped

View = Callable[[Tensor], Any]


def rearranged(square: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """Give a map of a tensor to a view of it: axes before the features are merged or split, or those in common kept."""
    if not before or not after or square.dim() != len(before):
        return reshaped(square, after)
    if before[-1] == after[-1] and square.shape[-1] == 1:
        return square.expand(*before[:-1], 1).reshape(*after[:-1], 1)
    shared = 0
    while shared < min(len(before), len(after)) - 1 and before[shared] == after[shared]:
        shared += 1
    if not shared:
        return reshaped(square, after)
    kept = square.mean(tuple(range(shared, square.dim())))
    return kept.reshape(*kept.shape, *(1,) * (len(after) - shared))


def spread_along(square: Tensor, axis: int, length: int) -> Tensor:
    """Write an axis of a map out."""
    sizes = list(square.shape)
    sizes[axis] = length
    return square.expand(sizes)


def adjoint(view: View, start: Tensor, after: Tensor) -> Tensor:
    """Put a map of what a selection took back to where it was taken; nothing elsewhere."""
    with torch.enable_grad():
        leaf = torch.zeros_like(start).requires_grad_()
        taken = view(leaf)
        (found,) = torch.autograd.grad(taken, leaf, after.expand_as(taken))
    return found
