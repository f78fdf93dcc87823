"""Gaussian expectations of an activation, by Gauss-Legendre panels that are broken where it has a kink.

Gauss-Hermite with 64 points misses E[φ'²] of a hard tanh by 0.08, because the slope jumps; a panel that ends at the
jump sees a smooth function on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import Activation, Array, resolve

_REACH = 12.0  # standard deviations: the Gaussian beyond is under 1e-31
_ORDER = 40
_FINE_PANELS = 96  # for functions with unknown kinks: 12 √q / 48 wide, with the usual kinks as extra cuts
_USUAL_KINKS = (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0)
_SMALLEST = 1e-280  # a variance below this underflows when squared activations are summed

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(_ORDER)
_INNER_POINTS, _INNER_WEIGHTS = np.polynomial.legendre.leggauss(16)  # for panels of two standard deviations


@dataclass(frozen=True)
class Moments:
    """What mean-field theory needs of an activation φ at a pre-activation variance q.

    Attributes
    ----------
    mean
        E[φ(√q z)], z standard normal.
    square
        E[φ(√q z)²].
    slope_square
        E[φ'(√q z)²].
    """

    mean: float
    square: float
    slope_square: float


def moments(activation: str | Activation | Callable[..., object], q: float) -> Moments:
    """Integrate an activation and its slope against a Gaussian of variance ``q``.

    Accurate to about 1e-12 for named activations; for a function with unknown kinks to about 1e-3 in ``slope_square``.
    At ``q = 0`` the limit from above; infinite where the integral overflows float64 (``exp``).

    Raises
    ------
    GraddoctorError
        For a variance that is negative or not finite.

    Examples
    --------
    >>> round(moments("tanh", 1.0).slope_square, 4)
    0.4644
    """
    phi = resolve(activation)
    x, w = gaussian_rule(phi, q)
    with np.errstate(over="ignore", invalid="ignore"):
        value, slope = phi.value(x), phi.slope(x)
        return Moments(*(_finite_or_inf(float(w @ integrand)) for integrand in (value, value**2, slope**2)))


def _finite_or_inf(integral: float) -> float:
    return integral if np.isfinite(integral) else float("inf")


def length_slope(activation: str | Activation | Callable[..., object], q: float) -> float:
    """Return dE[φ(√q z)²]/dq, as E[z φ φ'] / √q: no second derivative, which a kink does not have."""
    phi = resolve(activation)
    x, w = gaussian_rule(phi, q)
    return float(w @ (x * phi.value(x) * phi.slope(x))) / max(q, _SMALLEST)


def gaussian_rule(activation: Activation, q: float, *, kinks: tuple[float, ...] = ()) -> tuple[Array, Array]:
    """Return points and weights with ``w @ f(x)`` ≈ E[f(√q z)], for f as smooth as the activation between its kinks."""
    if not (np.isfinite(q) and q >= 0):
        raise GraddoctorError(f"expected a variance that is finite and not negative, got q = {q}")
    sigma = np.sqrt(max(q, _SMALLEST))
    edges = _edges(activation, -_REACH * sigma, _REACH * sigma, kinks)
    x, w = _panels(edges)
    return x, w * np.exp(-0.5 * (x / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)


def product(activation: str | Activation | Callable[..., object], q: float, correlation: float) -> float:
    """Return E[φ(u₁) φ(u₂)] for two jointly Gaussian inputs of variance ``q`` and the given correlation.

    The outer integral runs over u₁, the inner one over u₂ given u₁, with panels that end at the kinks in both.
    """
    phi = resolve(activation)
    if not -1.0 <= correlation <= 1.0:
        raise GraddoctorError(f"expected a correlation between -1 and 1, got {correlation}")
    spread = float(np.sqrt(max(q, _SMALLEST) * (1 - correlation**2)))
    blurred: tuple[float, ...] = ()  # where u₂, given u₁, meets a kink: there the inner integral bends within a spread
    if abs(correlation) > 1 / _REACH:
        blurred = tuple((k + n * spread) / correlation for k in phi.kinks or () for n in (-_REACH, -3, 0, 3, _REACH))
    x, w = gaussian_rule(phi, q, kinks=blurred)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(w @ (phi.value(x) * _conditional_mean(phi, correlation * x, spread)))


def _conditional_mean(phi: Activation, centre: Array, spread: float) -> Array:
    """E[φ(centre + spread·z)] for each centre."""
    if spread == 0:
        return phi.value(centre)
    offsets = np.arange(-_REACH, _REACH + 1, 2.0)  # two standard deviations a panel: the Gaussian is smooth on it
    cuts = np.array(_USUAL_KINKS if phi.kinks is None else (*phi.kinks, -1.0, 0.0, 1.0))
    inside = np.clip((cuts - centre[:, None]) / spread, -_REACH, _REACH)
    edges = np.sort(np.concatenate([np.broadcast_to(offsets, (centre.size, offsets.size)), inside], axis=1), axis=1)
    total = np.zeros_like(centre)
    for left, right in zip(edges.T[:-1], edges.T[1:], strict=True):  # one panel of every centre at a time
        half = (right - left) / 2
        z = (left + right)[:, None] / 2 + half[:, None] * _INNER_POINTS
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        value = phi.value((centre[:, None] + spread * z).ravel()).reshape(z.shape)
        total += half * ((value * density) @ _INNER_WEIGHTS)
    return total


def _edges(activation: Activation, low: float, high: float, extra: tuple[float, ...]) -> Array:
    """Panel ends: the kinks, and doubling distances from the origin, where every usual activation bends."""
    if activation.kinks is None:
        inner = np.concatenate([np.linspace(low, high, _FINE_PANELS + 1), np.array(_USUAL_KINKS)])
    else:
        doubling = 2.0 ** np.arange(0, max(1, np.ceil(np.log2(high))) + 1)
        inner = np.concatenate([[0.0], doubling, -doubling, activation.kinks, extra])
    inside = inner[(inner > low) & (inner < high)]
    return np.unique(np.concatenate([[low, high], inside]))


def _panels(edges: Array) -> tuple[Array, Array]:
    half = np.diff(edges) / 2
    middle = (edges[:-1] + edges[1:]) / 2
    return (middle[:, None] + half[:, None] * _POINTS).ravel(), (half[:, None] * _WEIGHTS).ravel()
