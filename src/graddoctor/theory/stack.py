"""What theory says of a plain stack of one activation: phase, depth scales, and how far a gradient reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from graddoctor.errors import GraddoctorError
from graddoctor.observe.budget import Budget, Part, Row
from graddoctor.theory.activations import Activation, resolve
from graddoctor.theory.maps import LARGEST, Phi, Propagation, chi, correlation_map, depth_scale, fixed_point, propagate
from graddoctor.theory.quadrature import gaussian_rule, length_slope, product

Phase = Literal["ordered", "critical", "chaotic"]

CRITICAL = 0.002
"""Decades a layer that count as none: over a hundred layers a fifth of a decade."""

_ALIKE = 1 - 1e-4
_SMALL = 1e-9
_LARGEST_STD = 1e6


def phase_of(decades_per_layer: float) -> Phase:
    """Ordered where gradients vanish with depth, chaotic where they explode."""
    if abs(decades_per_layer) <= CRITICAL:
        return "critical"
    return "ordered" if decades_per_layer < 0 else "chaotic"


@dataclass(frozen=True)
class PlainStack:
    """A stack in which weights and one activation take turns.

    Attributes
    ----------
    activation
        Its nonlinearity.
    weight_std, bias_std
        σ_w, the standard deviation of the weights × √fan_in, and σ_b.
    """

    activation: Activation
    weight_std: float
    bias_std: float = 0.0

    @classmethod
    def of(cls, activation: Phi, *, weight_std: float, bias_std: float = 0.0) -> PlainStack:
        """Resolve the activation, and refuse scales that are none."""
        for name, value in (("weight_std", weight_std), ("bias_std", bias_std)):
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and 0 <= value <= _LARGEST_STD):
                most = f"{_LARGEST_STD:,.0f}"
                raise GraddoctorError(f"{name}: expected a standard deviation from 0 to {most}, got {value!r}")
        return cls(resolve(activation), float(weight_std), float(bias_std))

    @cached_property
    def length(self) -> float:
        """q*, the pre-activation variance that the layers tend to; 0 where it collapses, ``inf`` where it diverges."""
        start = self.weight_std**2 + self.bias_std**2
        return fixed_point(self.activation, weight_std=self.weight_std, bias_std=self.bias_std, start=start or 1.0)

    @cached_property
    def chi(self) -> float:
        """χ₁ at q*: what a layer does to the squared norm of a gradient."""
        return chi(self.activation, min(self.length, LARGEST), weight_std=self.weight_std)

    @property
    def asymptotic(self) -> float:
        """Decades a layer that a very deep stack tends to, ½ log10 χ₁."""
        return 0.5 * math.log10(self.chi) if self.chi > 0 else -math.inf

    @property
    def phase(self) -> Phase:
        """Ordered, critical or chaotic."""
        return phase_of(self.asymptotic)

    @property
    def gradient_scale(self) -> float:
        """Layers in which a squared gradient changes by a factor e."""
        return depth_scale(self.chi)

    @cached_property
    def length_scale(self) -> float:
        """ξ_q: layers in which a deviation from q* shrinks by a factor e; ``inf`` where it does not."""
        q = self.length
        if not 0 < q < LARGEST:
            return math.inf
        return _scale(self.weight_std**2 * length_slope(self.activation, q))

    @cached_property
    def correlation(self) -> float:
        """c*: the correlation that two samples tend to; 1 in the ordered phase."""
        if self.chi <= 1:
            return 1.0
        if self._correlate(0.0) <= _SMALL:
            return 0.0
        if self._correlate(_ALIKE) >= _ALIKE:
            return 1.0
        try:
            return float(brentq(lambda c: self._correlate(c) - c, 0.0, _ALIKE, xtol=1e-6))
        except ValueError:  # lengths beyond all numbers have no correlation
            return math.nan

    @cached_property
    def correlation_scale(self) -> float:
        """ξ_c: layers in which what tells two samples apart shrinks by a factor e (Schoenholz et al. 2017)."""
        c = self.correlation
        if math.isnan(c):
            return math.nan
        if c == 1.0:
            return _scale(self.chi) if self.chi < 1 else math.inf
        slope = Activation("", self.activation.slope, self.activation.slope, kinks=self.activation.kinks)
        q = self._usual
        kept = self.weight_std**2 * q / (self.weight_std**2 * product(self.activation, q, 1.0) + self.bias_std**2)
        return _scale(kept * product(slope, q, c))

    @property
    def _usual(self) -> float:
        return min(max(self.length, _SMALL), 1 / _SMALL)

    def _correlate(self, c: float) -> float:
        scales = {"weight_std": self.weight_std, "bias_std": self.bias_std}
        return correlation_map(self.activation, c, self._usual, **scales)

    def through(self, depth: int) -> Propagation:
        """Follow the stack from inputs of unit variance."""
        return propagate(self.activation, depth, weight_std=self.weight_std, bias_std=self.bias_std)

    def scatter(self, lengths: np.ndarray, width: int) -> float:
        """Standard deviation of the total, in decades, between draws of weights of this width, for one sample.

        The squared norm of a layer's gradient is a mean of ``width`` products of a squared slope and a squared normal:
        its relative variance is (3 E[φ'⁴]/E[φ'²]² - 1)/width (Hanin 2018 for ReLU).
        """
        variance = 0.0
        for q in lengths:
            x, w = gaussian_rule(self.activation, float(min(q, LARGEST)))
            with np.errstate(over="ignore", invalid="ignore"):
                squares = self.activation.slope(x) ** 2
                mean, fourth = float(w @ squares), float(w @ squares**2)
            if mean > 0:
                variance += (3 * fourth / mean**2 - 1) / width
        return 0.5 * math.sqrt(variance) / math.log(10)

    def budget(self, passed: Propagation) -> Budget:
        """Write the layers down as rows of a gradient budget."""
        rows = tuple(self._row(layer, float(d)) for layer, d in enumerate(passed.decades, start=1))
        broken = [row.name for row in rows if not math.isfinite(row.decades)]
        if broken:
            rows = tuple(Row(r.name, r.kind, r.modules, 0.0, 0.0, 0.0, 0.0) for r in rows)
        return Budget(rows, math.fsum(row.decades for row in rows), broken[-1] if broken else None)

    def _row(self, layer: int, decades: float) -> Row:
        name = f"layer {layer}"
        weights = math.log10(self.weight_std) if self.weight_std > 0 else -math.inf
        parts = (
            Part(self.activation.name, "activation", (), decades - weights if math.isfinite(decades) else decades),
            Part("weights", "weight", (), weights),
        )
        return Row(name, "layer", (name,), decades, 0.0, 1.0, 1.0, parts)


def _scale(slope: float) -> float:
    """-1/ln of a slope below one; ``inf`` from one on, where nothing shrinks."""
    if slope >= 1:
        return math.inf
    return -1 / math.log(slope) if slope > 0 else 0.0
