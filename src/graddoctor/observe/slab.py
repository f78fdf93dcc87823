"""Slabs: a few samples x positions x units out of a large activation, by one strided view.

What an observer reads at every step must cost the same for every batch size. A slab has at most 512 values; its
samples and positions move from step to step, its units stay, so that a unit can be followed over the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

UNITS = 32  # of one slab, at most
_NEIGHBOURS = 8  # units
_POSITIONS = 2
_ROWS = 16  # samples, where each has one position
_ROWS_OF_MANY = 4  # samples, where each has many positions
_IMAGE_DIMENSIONS = 4  # from here on axis 1 holds the channels


@dataclass(frozen=True)
class Slab:
    """How a slab is cut from tensors of one shape and memory layout.

    ``size`` is (samples, positions, units). ``view`` is the same with the units in groups of neighbours, which share a
    line of the cache; ``stride`` the steps between them in memory. ``free`` is how far the first sample and the first
    position may be moved (in steps of ``step``).
    """

    size: tuple[int, int, int]
    view: tuple[int, int, int, int]
    stride: tuple[int, int, int, int]
    free: tuple[int, int]
    step: tuple[int, int]

    @property
    def count(self) -> int:
        """Number of values."""
        return self.size[0] * self.size[1] * self.size[2]

    def cut(self, tensor: Tensor, turn: float) -> Tensor:
        """View the slab in a tensor, as ``view``; ``turn`` in [0, 1) moves it over samples and positions."""
        start = int(turn * self.free[0]) * self.step[0] + int(turn * 7919 % 1 * self.free[1]) * self.step[1]
        return tensor.as_strided(self.view, self.stride, tensor.storage_offset() + start)


def slab(tensor: Tensor, *, whole_rows: bool = False) -> Slab | None:
    """Plan a slab for tensors like this one, or ``None`` where there is nothing to sample.

    Axis 0 holds the samples. Units are the last axis, or axis 1 from four axes on (images); all other axes are
    positions. With ``whole_rows`` the units are the whole last axis (what softmax needs).
    """
    shape, stride = tensor.shape, tensor.stride()
    if not tensor.dim() or not tensor.numel():
        return None
    if tensor.dim() == 1:
        axes: list[int] = []
        units, unit_stride = 1, 0
    else:
        axis = 1 if tensor.dim() >= _IMAGE_DIMENSIONS and not whole_rows else tensor.dim() - 1
        axes = [index for index in range(1, tensor.dim()) if index != axis]
        units, unit_stride = shape[axis], stride[axis]
    positions, position_stride = _flattened([(shape[index], stride[index]) for index in axes])
    kept_units = units if whole_rows else min(units, UNITS)
    kept_positions = min(positions, _POSITIONS)
    kept_rows = min(shape[0], _ROWS if positions == 1 else _ROWS_OF_MANY)
    by_row, by_position = shape[0] // kept_rows, positions // kept_positions
    groups = kept_units // _NEIGHBOURS if kept_units % _NEIGHBOURS == 0 and unit_stride == 1 else kept_units
    neighbours, by_group = kept_units // groups, units // groups
    return Slab(
        size=(kept_rows, kept_positions, kept_units),
        view=(kept_rows, kept_positions, groups, neighbours),
        stride=(stride[0] * by_row, position_stride * by_position, unit_stride * by_group, unit_stride),
        free=(shape[0] - (kept_rows - 1) * by_row, positions - (kept_positions - 1) * by_position),
        step=(stride[0], position_stride),
    )


def _flattened(axes: list[tuple[int, int]]) -> tuple[int, int]:
    """Size and stride of several axes taken as one; where memory does not allow it, the longest of them."""
    axes = [axis for axis in axes if axis[0] > 1]
    if not axes:
        return 1, 0
    ordered = sorted(axes, key=lambda axis: -axis[1])
    if all(outer[1] == inner[0] * inner[1] for outer, inner in pairwise(ordered)):
        size = 1
        for axis in axes:
            size *= axis[0]
        return size, ordered[-1][1]
    return max(axes)
