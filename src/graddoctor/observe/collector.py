"""Collector: gradients, weights and updates of many parameters into rows of one table.

On the training path a step costs one multi-tensor norm (exact) and three gathers of up to 256 elements a parameter
(gradient, weight before and after the step, at the same places). They land in a ring of rows on the device; what the
samples tell is worked out for many steps at once, off the training path, by `Collector.table`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graddoctor.observe._parameters import identical
from graddoctor.observe.statistics import norms
from graddoctor.recording import Stage, Track

SAMPLES = 256

GRADIENT_STATISTICS = ("norm", "count", "sum", "absmax", "zeros", "nonfinite")
CLIPPED_STATISTICS = ("norm",)
UPDATE_STATISTICS = ("norm", "unchanged")
WEIGHT_STATISTICS = ("norm", "count", "sum", "absmax", "zeros", "nonfinite", "identical")

_CLIPPED = len(GRADIENT_STATISTICS)  # first columns of the stages in the numbers of one parameter
_UPDATE = _CLIPPED + len(CLIPPED_STATISTICS)
_WEIGHT = _UPDATE + len(UPDATE_STATISTICS)

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """One watched parameter. ``stride`` x ``samples`` elements of it are sampled, from a start that moves."""

    name: str
    module: str
    parameter: nn.Parameter
    aliases: tuple[str, ...]
    samples: int
    stride: int

    def tracks(self, gradient: Stage) -> list[Track]:
        """Name what is recorded of it."""
        parts = (
            (gradient, GRADIENT_STATISTICS),
            (Stage.CLIPPED, CLIPPED_STATISTICS),
            (Stage.UPDATE, UPDATE_STATISTICS),
            (Stage.WEIGHT, WEIGHT_STATISTICS),
        )
        shape, dtype = tuple(self.parameter.shape), str(self.parameter.dtype).removeprefix("torch.")
        return [
            Track(self.name, stage, self.module, statistics, shape, dtype, aliases=self.aliases)
            for stage, statistics in parts
        ]


def watched(model: nn.Module, prefixes: Sequence[str] = ()) -> list[Entry]:
    """List the trainable parameters that hold values, each once, with all its names."""
    names: dict[int, list[str]] = {}
    found: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if is_watchable(parameter):
            names.setdefault(id(parameter), []).append(plain_name(name, prefixes))
            found[id(parameter)] = parameter
    entries = []
    for key, parameter in found.items():
        first, *others = names[key]
        numel = _local(parameter).numel()
        samples = min(numel, SAMPLES)
        stride = _odd(numel // samples) if samples else 1
        entries.append(Entry(first, first.rpartition(".")[0], parameter, tuple(others), samples, stride))
    return entries


def is_watchable(parameter: nn.Parameter) -> bool:
    """Whether a parameter is trained and has values: lazy ones do not yet, those on ``meta`` never."""
    lazy = isinstance(parameter, nn.parameter.UninitializedParameter)
    return parameter.requires_grad and not lazy and parameter.device.type != "meta"


def plain_name(name: str, prefixes: Sequence[str]) -> str:
    """Drop what wrappers put before a name (``module.`` of DDP, ``_orig_mod.`` of a compiled module)."""
    for prefix in prefixes:
        name = name.replace(prefix, "")
    return name


def _odd(stride: int) -> int:
    """Make a stride odd, lest it hits the same few columns of a matrix whose width is a power of two."""
    return stride - 1 if stride > 1 and stride % 2 == 0 else max(stride, 1)


def _local(tensor: Tensor) -> Tensor:
    to_local = getattr(tensor, "to_local", None)
    local: Tensor = to_local() if to_local is not None else tensor
    return local


class Collector:
    """Rows of numbers about fixed parameters, ``capacity`` steps at a time. To be called with gradients off."""

    def __init__(self, entries: list[Entry], capacity: int, gradient: Stage) -> None:
        self.entries = entries
        self.parameters = [entry.parameter for entry in entries]
        self.tracks = [track for entry in entries for track in entry.tracks(gradient)]
        self._identities = [id(parameter) for parameter in self.parameters]
        self._device = self.parameters[0].device if entries else torch.device("cpu")
        total = sum(entry.samples for entry in entries)
        self._raw, self._clipped = (self._nan(capacity, len(entries), torch.float64) for _ in range(2))
        self._gradient, self._before, self._after = (self._nan(capacity, total, torch.float32) for _ in range(3))
        self._gradient_read, self._before_read, self._after_read = (
            np.zeros((capacity, len(entries)), dtype=np.bool_) for _ in range(3)
        )
        self._identical = np.full(len(entries), np.nan)
        self._nothing = torch.full((SAMPLES,), torch.nan, device=self._device)
        self._width = max((entry.samples for entry in entries), default=0)
        self._pad = _padding([entry.samples for entry in entries], self._width, total).to(self._device)
        self._real = np.arange(self._width) < np.array([[entry.samples] for entry in entries], dtype=np.int64)
        self._numel = np.array([_local(parameter).numel() for parameter in self.parameters], dtype=np.float64)
        self._starts = [0] * len(entries)
        self._firsts = np.cumsum([0, *(entry.samples for entry in entries)]).tolist()
        self._witnesses = sorted({index * (len(entries) - 1) // 3 for index in range(4)}) if entries else []

    def _nan(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        return torch.full((rows, columns), torch.nan, dtype=dtype, device=self._device)

    def is_current(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Whether these are still the parameters to watch (none unfrozen, replaced or added)."""
        unique = {id(parameter): None for parameter in parameters if is_watchable(parameter)}
        return list(unique) == self._identities

    def move(self, turn: float) -> None:
        """Sample other elements from now on; ``turn`` is in [0, 1)."""
        sizes = zip(self._numel.tolist(), self.entries, strict=True)
        self._starts = [int(turn * (numel - (entry.samples - 1) * entry.stride)) for numel, entry in sizes]

    def fingerprint(self) -> list[tuple[int, int] | None]:
        """Tell apart gradients that were replaced or changed in place, without reading them."""
        gradients = [parameter.grad for parameter in self.parameters]
        return [None if g is None else (_pointer(g), g._version) for g in gradients]  # noqa: SLF001  # no public name

    def read_gradients(self, row: int) -> None:
        """Read what the backward pass left: exact norms, and the samples."""
        self._raw[row] = self._norms()
        gradients = [parameter.grad for parameter in self.parameters]
        self._gradient_read[row] = self._gather(gradients, self._gradient[row])

    def read_clipped(self, row: int, *, changed: bool, scale: Tensor | None = None) -> None:
        """Read what the optimizer gets: the same as before but for a common factor, if nobody else changed it."""
        values = self._norms() if changed else self._raw[row] * self._factor(row)
        self._clipped[row] = values if scale is None else values / scale

    def read_weights(self, row: int, *, after: bool) -> None:
        """Sample the parameters before or after the step."""
        buffer, read = (self._after, self._after_read) if after else (self._before, self._before_read)
        read[row] = self._gather(self.parameters, buffer[row])

    def read_identical(self) -> None:
        """Tell from now on how many units of each weight equal another one; this waits for the device: do it rarely."""
        shares = [identical(weight) if weight.dim() > 1 else 0.0 for weight in map(_local, self.parameters)]
        self._identical = np.array(shares)

    def _factor(self, row: int) -> Tensor | float:
        """By what all gradients were multiplied since they were read: ``GradScaler.unscale_`` leaves no other trace."""
        now, before = [], []
        for index in self._witnesses:
            gradient, entry, first = self.parameters[index].grad, self.entries[index], self._firsts[index]
            if self._gradient_read[row, index] and gradient is not None:
                now.append(_samples(_local(gradient), entry, self._starts[index]).to(self._device, torch.float64))
                before.append(self._gradient[row, first : first + entry.samples])
        if not now:
            return 1.0
        factor = torch.cat(now).norm() / torch.cat(before).double().norm()
        return torch.nan_to_num(factor, nan=1.0, posinf=1.0)

    def _norms(self) -> Tensor:
        present = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        values = norms([self.parameters[index].grad for index in present])  # type: ignore[misc]  # None is left out
        if len(present) == len(self.parameters):
            return values
        result = torch.full((len(self.parameters),), torch.nan, dtype=torch.float64, device=self._device)
        result[torch.tensor(present, dtype=torch.long, device=self._device)] = values.to(self._device)
        return result

    def _gather(self, tensors: Sequence[Tensor | None], out: Tensor) -> NDArray[np.bool_] | bool:
        """Copy samples of all tensors into one row; returns which of them could be read."""
        views, read = [], []
        for tensor, entry, start in zip(tensors, self.entries, self._starts, strict=True):
            if tensor is None or tensor.layout != torch.strided or tensor.is_complex():
                views.append(self._nothing[: entry.samples])
                read.append(False)
                continue
            read.append(True)
            views.append(_samples(_local(tensor), entry, start))
        if views and len({view.device for view in views}) == 1:
            torch.cat(views, out=out)
        elif views:
            out.copy_(torch.cat([view.to(self._device, torch.float32) for view in views]))
        return all(read) or np.array(read, dtype=np.bool_)

    def table(self, rows: int) -> Table:
        """Work out the statistics of the first ``rows`` rows and empty them: ``(rows, columns of all tracks)``."""
        raw, clipped = self._raw[:rows].cpu().numpy(), self._clipped[:rows].cpu().numpy()
        gradient, before, after = (self._padded(kept[:rows]) for kept in (self._gradient, self._before, self._after))
        there = [
            read[:rows, :, None] & self._real for read in (self._gradient_read, self._before_read, self._after_read)
        ]
        alike = np.broadcast_to(self._identical, raw.shape)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            moved = after - before
        told = there[0] & there[1] & there[2] & (gradient != 0) & np.isfinite(gradient) & np.isfinite(moved)
        weight, update = _moments(before, there[1]), _moments(moved, there[1] & there[2])
        parts = [  # in the order of `Entry.tracks`
            np.stack([raw, *_moments(gradient, there[0])[1:]], axis=-1),
            clipped[..., None],
            np.stack([self._scaled(update), _share(told & (moved == 0), told)], axis=-1),
            np.stack([self._scaled(weight), *weight[1:], alike], axis=-1),
        ]
        table = np.concatenate(parts, axis=-1).reshape(rows, -1)
        self._clear()
        return table

    def totals(self, table: Table) -> dict[str, Table]:
        """Norms of all parameters taken as one vector, step by step, from what `table` returned."""
        each = table.reshape(len(table), len(self.entries), -1)
        columns = {"gradient_norm": 0, "clipped_norm": _CLIPPED, "update_norm": _UPDATE, "weight_norm": _WEIGHT}
        return {name: np.sqrt(np.nansum(each[:, :, column] ** 2, axis=1)) for name, column in columns.items()}

    def _clear(self) -> None:
        for read in (self._gradient_read, self._before_read, self._after_read):
            read[:] = False
        for norm in (self._raw, self._clipped):
            norm.fill_(torch.nan)

    def _padded(self, samples: Tensor) -> Table:
        """Bring flat samples into ``(rows, parameters, samples)``, NaN where a parameter has fewer."""
        extra = torch.cat([samples, samples.new_full((len(samples), 1), torch.nan)], dim=1)
        shape = (len(samples), len(self.entries), self._width)
        return extra[:, self._pad].reshape(shape).cpu().numpy()

    def _scaled(self, moments: list[Table]) -> Table:
        """Estimate the norm of the whole from that of the samples (equal where all elements are sampled)."""
        norm, count = moments[0], moments[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return norm * np.sqrt(self._numel / count)


def _moments(values: Table, there: NDArray[np.bool_]) -> list[Table]:
    """Norm, count, sum, absmax, zeros, nonfinite along the last axis of what is ``there``; NaN where nothing is."""
    finite = there & np.isfinite(values)
    clean = np.where(finite, values, 0.0).astype(np.float64)
    parts = [
        np.sqrt((clean * clean).sum(-1)),
        there.sum(-1).astype(np.float64),
        clean.sum(-1),
        np.abs(clean).max(-1, initial=0.0),
        (finite & (clean == 0)).sum(-1),
        (there & ~finite).sum(-1),
    ]
    return [np.where(there.any(-1), part, np.nan) for part in parts]


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Table:
    share: Table = np.where(whole.any(-1), part.sum(-1) / np.maximum(whole.sum(-1), 1), np.nan)
    return share


def _padding(samples: Sequence[int], width: int, total: int) -> Tensor:
    index = torch.full((len(samples), width), total, dtype=torch.long)
    start = 0
    for row, count in enumerate(samples):
        index[row, :count] = torch.arange(start, start + count)
        start += count
    return index.reshape(-1)


def _samples(tensor: Tensor, entry: Entry, start: int) -> Tensor:
    """View the elements that are sampled."""
    if not _is_dense(tensor):
        tensor = tensor.reshape(-1)
    return tensor.as_strided((entry.samples,), (entry.stride,), tensor.storage_offset() + start)


def _pointer(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.layout == torch.strided and not hasattr(tensor, "to_local") else id(tensor)


def _is_dense(tensor: Tensor) -> bool:
    """Whether every element lies somewhere in one block of memory without gaps (in whatever order)."""
    return tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)  # noqa: PLR2004  # NCHW
    )
