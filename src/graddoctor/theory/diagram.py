"""The phase diagram of a plain stack: decades a layer over (σ_w, σ_b), and the edge of chaos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graddoctor.theory.activations import Activation, Array
from graddoctor.theory.quadrature import moments

_LENGTHS = np.geomspace(1e-10, 1e6, 161)
_CELLS = (40, 26)
_ROUNDING = 1e-9
_MARGINAL = 1e-3
_CLOSER = 40


@dataclass(frozen=True)
class Diagram:
    """Decades a layer on a grid.

    Attributes
    ----------
    weight_stds, bias_stds
        Edges of the cells, one more than there are cells.
    decades
        At the middle of each cell, rows by σ_b: ½ log10 χ₁ at the length that the layers tend to.
    edge
        Points (σ_w, σ_b) of the edge of chaos, in order.
    """

    weight_stds: Array
    bias_stds: Array
    decades: Array
    edge: tuple[tuple[float, float], ...]


def diagram(phi: Activation, *, weight_std: float, bias_std: float) -> Diagram:
    """Tabulate the phases of an activation so far out that these scales and the edge of chaos lie within."""
    square, slope = _moments(phi, _LENGTHS)
    edge = _edge(phi, square, slope)
    right = max(1.25 * weight_std, 2.5, *(1.3 * w for w, b in edge if b <= 1 and w < 20))  # noqa: PLR2004 - sigmoid's lies at ten
    top = max(1.25 * bias_std, 1.0)
    across, up = np.linspace(0.0, right, _CELLS[0] + 1), np.linspace(0.0, top, _CELLS[1] + 1)
    middle_w, middle_b = (across[1:] + across[:-1]) / 2, (up[1:] + up[:-1]) / 2
    decades = np.array([[_decades(w, b, square, slope) for w in middle_w] for b in middle_b])
    shown = [place for place, (w, b) in enumerate(edge) if w <= right and b <= top]
    until = shown[-1] + 2 if shown else 0  # one point beyond, so that the line meets the frame
    return Diagram(across, up, decades, tuple(edge[shown[0] : until]) if shown else ())


def _moments(phi: Activation, lengths: Array) -> tuple[Array, Array]:
    """E[φ²] and E[φ'²] at these lengths."""
    seen = [moments(phi, float(q)) for q in lengths]
    return np.array([m.square for m in seen]), np.array([m.slope_square for m in seen])


def _edge(phi: Activation, square: Array, slope: Array) -> list[tuple[float, float]]:
    """Lengths at which χ₁ = 1 and the bias that keeps them: σ_w² = 1/E[φ'²], σ_b² = q - σ_w² E[φ²].

    Only where the length is pulled back (dq'/dq ≤ 1): GELU has further points with χ₁ = 1, from which it runs away. A
    sigmoid's edge takes all small biases within a small part of the lengths, so its entry is looked at more closely.
    """
    lengths = _LENGTHS
    kept = _biases(lengths, square, slope) > 0
    enters = np.flatnonzero(~kept[:-1] & kept[1:])
    if enters.size:
        place = int(enters[-1])
        closer = np.linspace(lengths[place], lengths[place + 1], _CLOSER)[1:-1]
        more = _moments(phi, closer)
        lengths, square, slope = (
            np.insert(a, place + 1, b) for a, b in zip((lengths, square, slope), (closer, *more), strict=True)
        )
    biases = _biases(lengths, square, slope)
    with np.errstate(divide="ignore", invalid="ignore"):
        pulled = np.gradient(square, lengths) / slope <= 1 + _MARGINAL
    held = (biases >= -_ROUNDING * lengths) & pulled
    with np.errstate(divide="ignore"):
        found = zip((slope[held] ** -0.5).tolist(), np.sqrt(biases[held].clip(min=0)).tolist(), strict=True)
    return [point for point in found if np.isfinite(point).all()]


def _biases(lengths: Array, square: Array, slope: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(lengths - square / slope)


def _decades(weight_std: float, bias_std: float, square: Array, slope: Array) -> float:
    """½ log10 χ₁ where the length map, started at the length of the first layer, comes to rest on the table."""
    growth = (weight_std**2 * square + bias_std**2) / _LENGTHS - 1
    start = int(np.searchsorted(_LENGTHS, weight_std**2 + bias_std**2).clip(0, len(_LENGTHS) - 1))
    upwards = bool(growth[start] > 0)
    way = np.arange(start, len(_LENGTHS)) if upwards else np.arange(start, -1, -1)
    passed = np.flatnonzero(growth[way] <= 0 if upwards else growth[way] >= 0)
    place = way[passed[0]] if passed.size else way[-1]
    before = place - 1 if upwards else place + 1
    share = 0.0
    if passed.size and 0 <= before < len(_LENGTHS) and growth[before] != growth[place]:
        share = float(np.clip(growth[place] / (growth[place] - growth[before]), 0.0, 1.0))
    rate = slope[place] * (1 - share) + (slope[before] * share if share else 0.0)
    return float(0.5 * np.log10(max(weight_std**2 * rate, 1e-30)))
