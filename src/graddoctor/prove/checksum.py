"""Checksums of tensors: the same for the same numbers, in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch

from graddoctor.nested import leaves


def checksum(tensors: Iterable[torch.Tensor]) -> str:
    """Return a fingerprint of shapes, types and every bit of some tensors; 16 hexadecimal digits.

    What has no plain storage (sparse, quantised) counts by what it prints.
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor.detach()))
    return digest.hexdigest()[:16]


def checksum_of(thing: Any) -> str:
    """Return the fingerprint of all tensors in a batch, however it is nested."""
    return checksum(tensor for _, tensor in leaves(thing))


def _bytes(tensor: torch.Tensor) -> bytes:
    try:
        return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, TypeError, NotImplementedError):
        return repr(tensor).encode()
