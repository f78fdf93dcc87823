"""Draw batches at random from all samples."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler


def shuffle_batches(batches: Iterable[Any]) -> Iterable[Any]:
    """Draw the samples in a new random order each epoch.

    A `DataLoader` that goes through its data set in order is built again with ``shuffle=True``. Of
    anything else, an epoch is read into memory and dealt anew, in batches of the sizes it had.
    """
    if type(batches) is not DataLoader or not isinstance(batches.sampler, SequentialSampler):
        return ShuffledBatches(batches)
    if batches.batch_size is None:  # a batch sampler decides which samples go together
        return ShuffledBatches(batches)
    return DataLoader(
        batches.dataset,
        batch_size=batches.batch_size,
        shuffle=True,
        num_workers=batches.num_workers,
        collate_fn=batches.collate_fn,
        pin_memory=batches.pin_memory,
        drop_last=batches.drop_last,
        timeout=batches.timeout,
        worker_init_fn=batches.worker_init_fn,
        multiprocessing_context=batches.multiprocessing_context,
        generator=batches.generator,
        prefetch_factor=batches.prefetch_factor,
        persistent_workers=batches.persistent_workers,
        pin_memory_device=batches.pin_memory_device,
        in_order=batches.in_order,
    )


class ShuffledBatches(IterableDataset[Any]):
    """Batches whose samples are dealt anew each time they are iterated, by torch's generator."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = list(batches) if isinstance(batches, Iterator) else batches

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        batches = list(self.batches)
        sizes = [batch_size_of(batch) for batch in batches]
        whole = joined_batches(batches, sizes)
        for rows in torch.split(torch.randperm(sum(sizes)), sizes):
            yield chosen_rows(whole, rows, sum(sizes))


def batch_size_of(batch: Any) -> int:
    """Return the length of the first tensor that has one."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 0
    return next((size for part in parts_of(batch).values() if (size := batch_size_of(part))), 0)


def joined_batches(batches: list[Any], sizes: list[int]) -> Any:
    """Join the tensors of all batches along their first axis; all else must be the same in each."""
    first = batches[0]
    if isinstance(first, torch.Tensor) and first.ndim:
        if [len(batch) for batch in batches] == sizes:
            return torch.cat(batches)
    elif parts := parts_of(first):
        columns = {key: [parts_of(batch)[key] for batch in batches] for key in parts}
        return rebuilt(first, {key: joined_batches(rows, sizes) for key, rows in columns.items()})
    elif all(type(batch) is type(first) and bool(batch == first) for batch in batches):
        return first
    raise TypeError(
        f"cannot deal batches anew that differ in a {type(first).__name__}: "
        "expected tensors with one row a sample; shuffle where the batches are made"
    )


def chosen_rows(whole: Any, rows: torch.Tensor, count: int) -> Any:
    """Take rows of every tensor that has one for each sample."""
    if isinstance(whole, torch.Tensor):
        return whole[rows.to(whole.device)] if whole.ndim and len(whole) == count else whole
    parts = {key: chosen_rows(part, rows, count) for key, part in parts_of(whole).items()}
    return rebuilt(whole, parts) if parts else whole


def parts_of(batch: Any) -> dict[Any, Any]:
    """Return what a tuple, list, dict or dataclass holds, by index, key or name."""
    if isinstance(batch, (tuple, list)):
        return dict(enumerate(batch))
    if is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in fields(batch)}
    return dict(batch) if hasattr(batch, "keys") else {}


def rebuilt(batch: Any, parts: dict[Any, Any]) -> Any:
    """Make a container of the same kind from other parts."""
    if isinstance(batch, (tuple, list)):
        values = parts.values()
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    twin = copy.copy(batch)
    for key, part in parts.items():
        if is_dataclass(batch):
            object.__setattr__(twin, key, part)
        else:
            twin[key] = part
    return twin
