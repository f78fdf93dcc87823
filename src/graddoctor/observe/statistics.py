"""Sufficient statistics of a tensor: what one pass over it tells, and how two passes become one.

Three pure functions: `measure` (one tensor), `measure_many` (many tensors, one call), `merge` (two parts of a whole).
Everything else (mean, standard deviation, root mean square, share of zeros) follows from what they return. Nothing here
reads a number on the host: the fields are tensors on the device of what was measured, until `Statistics.numbers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOWEST_OCTAVE = -150  # everything below float32's smallest subnormal, 2**-149, is counted here
HIGHEST_OCTAVE = 128
OCTAVES = HIGHEST_OCTAVE - LOWEST_OCTAVE + 1

_LARGE = 1 << 20  # above this many elements a float32 accumulator loses the fifth digit
_SMALLEST_NORM = 1e-15  # below it squares may have underflowed in float32
_EXPONENT_LIMIT = 1000  # ldexp by more than this leaves the range of float64


@dataclass(frozen=True)
class Statistics:
    """What is known of a tensor after one pass over it; of several tensors, when the fields are vectors.

    Attributes
    ----------
    count
        Number of elements.
    sum, norm, absmax
        Sum, root of the sum of squares, largest magnitude, all over the *finite* elements, in float64.
    zeros, nonfinite
        How many elements are exactly zero; how many are NaN or infinite.
    histogram
        How many finite, nonzero elements have ``floor(log2|x|)`` equal to each of `LOWEST_OCTAVE` … `HIGHEST_OCTAVE`
        (what lies outside is counted at the end it left by). The last axis has `OCTAVES` entries.
    skipped
        Why nothing was measured, or ``None``. Then every number is that of an empty tensor.
    """

    count: Tensor
    sum: Tensor
    norm: Tensor
    absmax: Tensor
    zeros: Tensor
    nonfinite: Tensor
    histogram: Tensor
    skipped: str | None = None

    @property
    def mean(self) -> Tensor:
        """Mean of the finite elements (``nan`` where there are none)."""
        return self.sum / (self.count - self.nonfinite)

    @property
    def std(self) -> Tensor:
        """Standard deviation of the finite elements, of the tensor itself (not an estimate for a population)."""
        finite = self.count - self.nonfinite
        return ((self.norm / finite.sqrt()) ** 2 - self.mean**2).clamp_min(0).sqrt()

    def numbers(self) -> dict[str, float]:
        """Return the six scalars as Python floats: waits for the device.

        Examples
        --------
        >>> measure(torch.tensor([3.0, -4.0, 0.0])).numbers()["norm"]
        5.0
        """
        fields = ("count", "sum", "norm", "absmax", "zeros", "nonfinite")
        values = torch.stack([getattr(self, name) for name in fields]).tolist()
        return dict(zip(fields, values, strict=True))


def measure(tensor: Tensor) -> Statistics:
    """Measure one tensor of any kind.

    Sparse tensors count their implicit zeros, complex ones are measured by magnitude, of a ``DTensor`` this rank's
    shard is measured, half precision is widened first. A tensor on ``meta`` holds no values: it is skipped, and
    `Statistics.skipped` says so.

    Returns
    -------
    Statistics
        0-d float64 tensors on the device of ``tensor``.
    """
    with torch.no_grad():
        if tensor.device.type == "meta":
            return _empty(torch.device("cpu"), "it is on the meta device and holds no values")
        values, implicit_zeros = _values(tensor)
        return _measure_dense(values, implicit_zeros)


def measure_many(tensors: Sequence[Tensor]) -> Statistics:
    """Measure many tensors: the fields of the result are vectors, one entry a tensor.

    Raises
    ------
    ValueError
        If there is nothing to measure.

    Examples
    --------
    >>> measure_many([torch.ones(4), torch.zeros(2)]).norm.tolist()
    [2.0, 0.0]
    """
    if not tensors:
        raise ValueError("measure_many: expected at least one tensor, got none")
    parts = [measure(tensor) for tensor in tensors]
    reasons = [f"tensor {index}: {part.skipped}" for index, part in enumerate(parts) if part.skipped]
    device = parts[0].count.device
    fields = ("count", "sum", "norm", "absmax", "zeros", "nonfinite", "histogram")
    stacked = {name: torch.stack([getattr(part, name).to(device) for part in parts]) for name in fields}
    return Statistics(**stacked, skipped="; ".join(reasons) or None)


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Return the statistics of the whole of which ``first`` and ``second`` are the disjoint parts.

    Examples
    --------
    >>> merge(measure(torch.tensor([3.0])), measure(torch.tensor([4.0]))).norm.item()
    5.0
    """
    return Statistics(
        count=first.count + second.count,
        sum=first.sum + second.sum,
        norm=torch.hypot(first.norm, second.norm),
        absmax=torch.maximum(first.absmax, second.absmax),
        zeros=first.zeros + second.zeros,
        nonfinite=first.nonfinite + second.nonfinite,
        histogram=first.histogram + second.histogram,
        skipped="; ".join(reason for reason in (first.skipped, second.skipped) if reason) or None,
    )


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor by one multi-tensor pass: the cheapest exact reading there is.

    A tensor that holds a NaN or an infinity has norm infinity. On the CPU squares are summed in float32, and summed
    again in float64 for the few tensors where that could go wrong (large, tiny, overflown): the relative error stays
    under 1e-4. On other devices they are summed in float64 at once, so that nothing waits for the device.

    Returns
    -------
    torch.Tensor
        ``(len(tensors),)``, float64, on the device of the first tensor.
    """
    with torch.no_grad():
        plain = [_local(tensor) for tensor in tensors]
        if not plain:
            return torch.zeros(0, dtype=torch.float64)
        if all(tensor.dtype == torch.float32 and tensor.layout == torch.strided for tensor in plain):
            values = _norms_float32(plain)
        else:
            values = torch.stack([_norm64(tensor).to(plain[0].device) for tensor in plain])
        return torch.nan_to_num(values, nan=torch.inf, posinf=torch.inf)


def _norms_float32(tensors: list[Tensor]) -> Tensor:
    if tensors[0].device.type != "cpu":
        return torch.stack(torch._foreach_norm(tensors, 2, dtype=torch.float64))  # noqa: SLF001  # no public name
    quick = torch.stack(torch._foreach_norm(tensors)).double()  # noqa: SLF001  # no public name
    for index, value in enumerate(quick.tolist()):
        if not (_SMALLEST_NORM < value < float("inf")) or tensors[index].numel() > _LARGE:
            quick[index] = _norm64(tensors[index])
    return quick


def _norm64(tensor: Tensor) -> Tensor:
    """Norm of an odd tensor: half, sparse, complex, integer, very small or very large."""
    values, _ = _values(tensor)
    if values.is_floating_point() and values.dtype != torch.float64:
        norm: Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
        return norm
    return measure(values).norm if values.isfinite().all() else torch.tensor(torch.inf, dtype=torch.float64)


def _local(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a ``DTensor``, and any other tensor as it is."""
    if type(tensor) is Tensor:
        return tensor
    to_local = getattr(tensor, "to_local", None)
    local: Tensor = to_local() if to_local is not None else tensor.detach()
    return local


def _values(tensor: Tensor) -> tuple[Tensor, int]:
    """Return the stored values as a dense real tensor, and how many zeros are not stored."""
    tensor = _local(tensor)
    whole = tensor.numel()
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_complex():
        tensor = tensor.abs()
    return tensor, whole - tensor.numel()


def _measure_dense(values: Tensor, implicit_zeros: int) -> Statistics:
    wide = values.reshape(-1).double()
    if not wide.numel():
        empty = _empty(wide.device, None)
        zeros = torch.tensor(float(implicit_zeros), dtype=torch.float64, device=wide.device)
        return Statistics(zeros, empty.sum, empty.norm, empty.absmax, zeros, empty.nonfinite, empty.histogram)
    finite = wide.isfinite()
    wide = torch.where(finite, wide, 0.0)
    nonfinite = (~finite).sum().double()
    magnitude = wide.abs()
    absmax = magnitude.max()
    stored_zeros = (magnitude == 0).sum().double() - nonfinite
    return Statistics(
        count=torch.tensor(float(wide.numel() + implicit_zeros), dtype=torch.float64, device=wide.device),
        sum=wide.sum(),
        norm=_scaled_norm(magnitude, absmax),
        absmax=absmax,
        zeros=stored_zeros + implicit_zeros,
        nonfinite=nonfinite,
        histogram=_histogram(magnitude),
    )


def _scaled_norm(magnitude: Tensor, absmax: Tensor) -> Tensor:
    """Norm after division by a power of two near the largest magnitude: exact scaling, no overflow, no underflow."""
    exponent = torch.frexp(absmax).exponent.clamp(-_EXPONENT_LIMIT, _EXPONENT_LIMIT)
    return torch.ldexp(torch.ldexp(magnitude, -exponent).square().sum().sqrt(), exponent)


def _histogram(magnitude: Tensor) -> Tensor:
    octave = torch.frexp(magnitude).exponent.long() - 1  # frexp has 2**-1 <= mantissa < 1
    index = octave.clamp(LOWEST_OCTAVE, HIGHEST_OCTAVE) - LOWEST_OCTAVE
    index = torch.where(magnitude > 0, index, OCTAVES)  # one bin more, for the zeros, dropped again
    return torch.bincount(index, minlength=OCTAVES + 1)[:OCTAVES]


def _empty(device: torch.device, reason: str | None) -> Statistics:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    histogram = torch.zeros(OCTAVES, dtype=torch.long, device=device)
    return Statistics(zero, zero, zero, zero, zero, zero, histogram, reason)
