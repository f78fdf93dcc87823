"""Readings of parameters: size, gradient, and the symmetry that training cannot break."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from graddoctor.observe import _samples as samples_of
from graddoctor.observe.readings import ParameterReading

_ROWS, _COLUMNS = 4096, 64  # where equal rows are looked for by their sums before they are compared in full
_SMALL = 4096  # elements up to which the deviation is taken directly, so that equal entries give exactly 0


def readings(
    model: nn.Module, gradients: Mapping[int, Tensor | None], order: Sequence[str]
) -> tuple[tuple[ParameterReading, ...], float]:
    """Read every parameter of ``model``.

    Parameters
    ----------
    gradients
        By ``id`` of the parameter.
    order
        Names in the order of first use; parameters not among them come last.

    Returns
    -------
    The readings, and the share of zeros among all gradient entries.
    """
    names: dict[int, list[str]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    places = {name: place for place, name in enumerate(order)}
    ranked = sorted(parameters, key=lambda key: min(places.get(name, len(places)) for name in names[key]))
    found, zeros, entries = [], 0.0, 0
    for place, key in enumerate(ranked):
        parameter = parameters[key]
        if nn.parameter.is_lazy(parameter) or parameter.device.type == "meta":
            continue
        reading = _reading(names[key], parameter, gradients.get(key), place)
        found.append(reading)
        if reading.gradient is not None:
            zeros += reading.gradient_zeros * parameter.numel()
            entries += parameter.numel()
    return tuple(found), zeros / entries if entries else 0.0


def _reading(names: Sequence[str], parameter: Tensor, gradient: Tensor | None, order: int) -> ParameterReading:
    values = _dense(parameter)
    norm = float(samples_of.norm(values))
    mean, std = _moments(values, norm)
    size, zeros, nonfinite = (None, 0.0, 0) if gradient is None else _gradient(_dense(gradient), parameter.numel())
    return ParameterReading(
        name=names[0],
        module=names[0].rpartition(".")[0],
        shape=tuple(parameter.shape),
        dtype=str(parameter.dtype).removeprefix("torch."),
        trainable=parameter.requires_grad,
        norm=norm,
        mean=mean,
        std=std,
        gradient=size,
        gradient_zeros=zeros,
        gradient_nonfinite=nonfinite,
        identical=identical(values) if values.dim() > 1 else 0.0,
        aliases=tuple(names[1:]),
        order=order,
    )


def _dense(values: Tensor) -> Tensor:
    values = values.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    elif values.layout is not torch.strided:
        values = values.to_dense()
    return torch.view_as_real(values) if values.is_complex() else values


def _moments(values: Tensor, norm: float) -> tuple[float, float]:
    count = values.numel()
    if not values.is_floating_point() or count == 0:
        return math.nan, math.nan
    if count <= _SMALL:
        deviation, center = torch.std_mean(values.double(), correction=0)
        return float(center), float(deviation)
    mean = float(values.sum(dtype=torch.float64)) / count
    return mean, math.sqrt(max(norm * norm / count - mean * mean, 0.0))


def _gradient(gradient: Tensor, entries: int) -> tuple[float, float, int]:
    norm = float(samples_of.norm(gradient))
    zeros = 1.0 - int(torch.count_nonzero(gradient)) / entries if entries else 0.0
    nonfinite = 0 if math.isfinite(norm) else gradient.numel() - int(gradient.isfinite().sum())
    return norm, zeros, nonfinite


def identical(weight: Tensor) -> float:
    """Share of output units (rows) of a matrix whose weights equal another unit's, bit for bit."""
    rows = weight.reshape(weight.shape[0], -1)
    if min(rows.shape) == 0 or rows.shape[0] < 2:  # noqa: PLR2004 - one unit equals no other
        return 0.0
    rows = rows[:_ROWS]
    sums = rows[:, :_COLUMNS].sum(1, dtype=torch.float64).tolist() if rows.is_floating_point() else []
    if len(set(sums)) == len(rows):
        return 0.0
    return _repeated(rows) / rows.shape[0]


def _repeated(rows: Tensor) -> int:
    seen: dict[bytes, int] = {}
    values = rows.contiguous().cpu()
    raw = values.view(torch.uint8) if values.element_size() > 1 else values
    for row in raw.numpy():
        key = row.tobytes()
        seen[key] = seen.get(key, 0) + 1
    return sum(count for count in seen.values() if count > 1)


def used(parameters: Iterable[tuple[str, Tensor]]) -> dict[int, str]:
    """First name of every trainable parameter, by ``id``."""
    found: dict[int, str] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            found.setdefault(id(parameter), name)
    return found
