"""Mean-field maps of a plain stack: how length, correlation and gradient pass from layer to layer.

    q' = σ_w² E[φ(√q z)²] + σ_b²          length of the pre-activations (Poole et al. 2016)
    c' = (σ_w² E[φ(u₁)φ(u₂)] + σ_b²) / q'   correlation of two samples
    χ₁ = σ_w² E[φ'(√q z)²]                slope of the correlation map at c = 1, and gain of ‖∂L/∂z‖² per layer

``weight_std`` is σ_w, the standard deviation of the weights times √fan_in; ``bias_std`` is σ_b, as it is. A gradient's
norm changes by ½ log10 χ₁(q) decades a layer, at the q of that layer (Schoenholz et al. 2017); the rule holds for dense
layers and for convolutions with fan_in = kernel elements × channels (Xiao et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import Activation, Array, resolve
from graddoctor.theory.quadrature import moments, product

Phi = str | Activation | Callable[..., object]

LARGEST = 1e12
"""A length beyond this is taken for divergent, one under its inverse for zero."""

TRAINABLE_DEPTHS = 6.0
"""A plain net trains to about this many depth scales (Schoenholz et al. 2017)."""

_MARGINAL = 1e-10  # relative change of the length that counts as none
_TOUCHING = 1e-7  # the same for a root that is not crossed, which rounding hides


@dataclass(frozen=True)
class Propagation:
    """A plain stack followed layer by layer, not only at its fixed point.

    Attributes
    ----------
    lengths
        Pre-activation variance q of each layer, input side first.
    decades
        log10 of the gain of the gradient's norm through each layer's activation and the weights after it; negative is
        lost on the way back.
    """

    lengths: Array
    decades: Array

    @property
    def total(self) -> float:
        """Decades from the last to the first layer."""
        return float(self.decades.sum())

    @property
    def decades_per_layer(self) -> float:
        """The total divided by the number of layers."""
        return self.total / len(self.decades)


def length_map(activation: Phi, q: float, *, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the pre-activation variance of the next layer."""
    return _checked(weight_std) ** 2 * moments(activation, q).square + _checked(bias_std) ** 2


def correlation_map(activation: Phi, c: float, q: float, *, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the correlation of two samples' pre-activations in the next layer; ``q`` is usually the fixed point."""
    together = _checked(weight_std) ** 2 * product(activation, q, c) + _checked(bias_std) ** 2
    return together / length_map(activation, q, weight_std=weight_std, bias_std=bias_std)


def chi(activation: Phi, q: float, *, weight_std: float) -> float:
    """Return χ₁: the factor by which a layer changes the squared norm of the gradient; 1 at the edge of chaos."""
    return _checked(weight_std) ** 2 * moments(activation, q).slope_square


def fixed_point(activation: Phi, *, weight_std: float, bias_std: float = 0.0, start: float = 1.0) -> float:
    """Return the length that the length map tends to from ``start``: 0.0 where it collapses, ``inf`` where it diverges.

    The map is nearly always increasing, so it moves one way from its start and stops at the next root. Where it stands
    still at the start (He and ReLU: every length is fixed) the start itself is returned. A half-stable point (GELU at
    its critical variances), which the map touches without crossing, counts as a root.
    """
    phi = resolve(activation)

    def growth(log_q: float) -> float:
        q = float(np.exp(log_q))
        return length_map(phi, q, weight_std=weight_std, bias_std=bias_std) / q - 1

    here = float(np.log(start))
    sign = float(np.sign(growth(here)))
    if abs(growth(here)) <= _MARGINAL:
        return start
    step, before = sign * float(np.log(2.0)), here
    while abs(here) < np.log(LARGEST):
        there = here + step
        if growth(there) * sign <= 0:
            return float(np.exp(brentq(growth, min(here, there), max(here, there), xtol=1e-12)))
        if abs(growth(here)) < min(abs(growth(before)), abs(growth(there))):
            touch = minimize_scalar(lambda at: sign * growth(at), bounds=sorted((before, there)), method="bounded")
            if touch.fun <= _TOUCHING:
                return float(np.exp(touch.x))
        before, here = here, there
    return float("inf") if sign > 0 else 0.0


def asymptotic_decades(activation: Phi, *, weight_std: float, bias_std: float = 0.0) -> float:
    """Return the decades per layer that a very deep stack tends to: ½ log10 χ₁ at the fixed point."""
    q = fixed_point(activation, weight_std=weight_std, bias_std=bias_std)
    return _half_log10(chi(activation, min(q, LARGEST), weight_std=weight_std))


def propagate(
    activation: Phi, depth: int, *, weight_std: float, bias_std: float = 0.0, start: float | None = None
) -> Propagation:
    """Follow a plain stack through ``depth`` layers, not only at its fixed point.

    Parameters
    ----------
    activation
        A name, a function of a tensor, or an `Activation`.
    depth
        How often an activation and a layer of weights follow each other.
    weight_std, bias_std
        σ_w (standard deviation × √fan_in) and σ_b.
    start
        Variance of the first layer's pre-activations; by default that of inputs with unit variance, σ_w² + σ_b².

    Raises
    ------
    GraddoctorError
        For a depth under one, a scale or start that is negative or not finite.

    Examples
    --------
    >>> round(propagate("sigmoid", 10, weight_std=3**-0.5).total, 2)
    -8.52
    """
    if depth < 1:
        raise GraddoctorError(f"expected a depth of at least 1, got {depth}")
    phi = resolve(activation)
    gain, offset = _checked(weight_std) ** 2, _checked(bias_std) ** 2
    lengths, decades = np.empty(depth), np.empty(depth)
    q = gain + offset if start is None else start
    for layer in range(depth):
        m = moments(phi, q)
        lengths[layer], decades[layer] = q, _half_log10(gain * m.slope_square)
        q = min(gain * m.square + offset, LARGEST**2)
    return Propagation(lengths, decades)


def depth_scale(chi_1: float) -> float:
    """Return ξ = 1 / abs(ln χ₁): layers in which a squared gradient changes by a factor e; ``inf`` at χ₁ = 1."""
    rate = abs(float(np.log(chi_1))) if chi_1 > 0 else float("inf")
    return 1 / rate if rate > 0 else float("inf")


def _half_log10(gain: float) -> float:
    return 0.5 * float(np.log10(gain)) if gain > 0 else -float("inf")


def _checked(std: float) -> float:
    if not (np.isfinite(std) and std >= 0):
        raise GraddoctorError(f"expected a standard deviation that is finite and not negative, got {std}")
    return std
