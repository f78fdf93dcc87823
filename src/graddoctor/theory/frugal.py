"""Look at as little of a batch as will do: what theory needs of it is its scale, and how the network is wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graddoctor.errors import GraddoctorError
from graddoctor.nested import mapped
from graddoctor.observe._recorder import tensors_in
from graddoctor.observe._samples import batch_size

Result = TypeVar("Result")

WORK = 3e9
"""Multiplications of a forward pass up to which a batch is looked at as it is."""

SAMPLES, PLACES = 2, 16
"""What is looked at of a larger one, at least: so many samples and, of texts, tokens."""

_TOKENS = 2  # axes of a batch of texts


def lighter(look: Callable[[Any], Result], model: nn.Module, batch: Any) -> Result:
    """Look at a part of a large batch, and at all of it only where the network cannot be run on the part."""
    part = cropped(batch, model)
    if part is batch:
        return look(batch)
    try:
        return look(part)
    except GraddoctorError:
        raise
    except Exception:  # noqa: BLE001 - whatever a network says to a smaller batch, it may take the whole one
        return look(batch)


def cropped(batch: Any, model: nn.Module) -> Any:
    """The first samples of a batch, and of texts the first tokens, if the network is large; else the batch itself."""
    tensors = [tensor for _, tensor in tensors_in(batch)]
    size = batch_size([tuple(t.shape) for t in tensors])
    weights = sum(p.numel() for p in model.parameters())
    places = max((_places(t) for t in tensors), default=1)
    if size == 0 or weights * size * places <= WORK:
        return batch
    statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())  # noqa: SLF001 - their base
    samples = size if statistics else min(size, max(SAMPLES, int(WORK / (weights * places))))
    kept = max(PLACES, int(WORK / (weights * samples)))
    texts = {tuple(t.shape[:_TOKENS]) for t in tensors if _is_text(t)}
    length = next(iter(texts))[1] if len(texts) == 1 else 0

    def crop(tensor: Tensor) -> Tensor:
        if tensor.dim() and tensor.shape[0] == size:
            tensor = tensor[:samples]
        if length > kept:
            for axis in range(1, tensor.dim()):
                if tensor.shape[axis] == length:
                    tensor = tensor.narrow(axis, 0, kept)
        return tensor

    return mapped(crop, batch)


def _is_text(tensor: Tensor) -> bool:
    return tensor.dim() == _TOKENS and tensor.dtype in {torch.int64, torch.int32} and tensor.shape[1] > 1


def _places(tensor: Tensor) -> int:
    return tensor.shape[1] if tensor.dim() >= _TOKENS and (_is_text(tensor) or tensor.dim() == 3) else 1  # noqa: PLR2004 - (sample, place, feature)
