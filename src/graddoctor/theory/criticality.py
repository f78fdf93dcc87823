"""The scale of weights and biases at which a plain stack of an activation neither loses nor gains gradient.

Critical means χ₁ = σ_w² E[φ'²] = 1 at a length that the layers keep. Which kind of point there is depends on φ:

scale-free
    φ(cx) = cφ(x): σ_w² = 1/E[φ'²], σ_b = 0, every length is kept (He et al. 2015 for ReLU).
critical line
    φ that bends towards saturation (tanh): one point for each σ_b > 0, and the length is pulled back to it. A small σ_b
    keeps the stack nearly linear, hence samples apart for longest (Poole et al. 2016, Schoenholz et al. 2017).
half-stable
    GELU, SiLU, Mish: a single point with χ₁ = 1 and dq'/dq = 1 (Roberts, Yaida and Hanin 2021).
self-normalizing
    SELU: made for σ_w = 1 (Klambauer et al. 2017), near a critical point and not on it.
fallback
    Sigmoid and others have none that is of use: `CriticalInit.exact` is false, `source` says what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import Activation, resolve
from graddoctor.theory.quadrature import length_slope, moments

Kind = Literal["scale-free", "critical line", "half-stable", "self-normalizing", "fallback"]

LINE_BIAS_STD = 0.05
"""The σ_b at which a critical line is entered: small, yet far enough from 0 that the length is not a slow power law."""

LARGEST_LENGTH = 20.0
"""A critical point at a greater length is of no use: there the units of a bounded function are saturated."""

_SMALL, _FAR = 1e-6, 1e4
_GRID = np.linspace(-8.0, 8.0, 3201)
_SEARCH = np.geomspace(1e-3, LARGEST_LENGTH, 25)
_NOISE = 1e-6  # a relative slope closer to 1 than this is 1: relu6 is scale-free below its ceiling


@dataclass(frozen=True)
class CriticalInit:
    """Where to start a plain stack of an activation.

    Attributes
    ----------
    activation
        Its name.
    weight_std
        σ_w: standard deviation of the weights × √fan_in.
    bias_std
        σ_b: standard deviation of the biases, as it is.
    kind
        Which kind of critical point this is; see the module.
    source
        Where it comes from, in words fit for a report.
    exact
        Whether χ₁ is 1 at a length that the layers keep. If not, it is the best known choice.
    length
        The pre-activation variance q* at which it holds (``nan``: at every one, or none is meant).
    """

    activation: str
    weight_std: float
    bias_std: float
    kind: Kind
    source: str
    exact: bool
    length: float = float("nan")

    def std(self, fan_in: int) -> float:
        """Return the standard deviation of the weights of a layer with ``fan_in`` inputs."""
        return self.weight_std / float(np.sqrt(fan_in))


def gain(activation: str | Activation | Callable[..., object]) -> CriticalInit:
    """Return the scale of weights and biases at which a plain stack of this activation is critical.

    Parameters
    ----------
    activation
        The activation that *follows* the weights: a name such as ``"relu"`` or ``"leaky_relu(0.2)"``, or an elementwise
        function of a tensor.

    Raises
    ------
    GraddoctorError
        For an unknown name (the message lists the known ones) or a function that is not elementwise.

    Examples
    --------
    >>> round(gain("relu").weight_std ** 2, 6)
    2.0
    >>> round(gain("tanh").weight_std, 4)
    1.1225
    >>> gain("sigmoid").exact
    False
    """
    return _by_name(activation) if isinstance(activation, str) else _solve(resolve(activation))


@lru_cache(maxsize=256)
def _by_name(name: str) -> CriticalInit:
    return _solve(resolve(name))


def _solve(phi: Activation) -> CriticalInit:
    if phi.name == "selu":
        return CriticalInit(
            "selu", 1.0, 0.0, "self-normalizing", "variance 1/fan_in (Klambauer et al. 2017)", exact=False
        )
    if not moments(phi, 1.0).slope_square > 0:
        raise GraddoctorError(f"{phi.name} has a slope of zero everywhere: no gradient passes it at any weight scale")
    if phi.scale_free:
        weight_std = _critical_std(phi, 1.0)
        return CriticalInit(phi.name, weight_std, 0.0, "scale-free", "1/E[φ'²], as He et al. 2015 for ReLU", exact=True)
    return _half_stable(phi) or _on_critical_line(phi) or _fallback(phi)


def _half_stable(phi: Activation) -> CriticalInit | None:
    """The point where χ₁ = 1 and the length map touches the diagonal."""
    excess = np.array([_length_excess(phi, q) for q in _SEARCH])
    for i in np.flatnonzero((excess[:-1] > _NOISE) & (excess[1:] < -_NOISE)):
        q = float(brentq(lambda at: _length_excess(phi, at), _SEARCH[i], _SEARCH[i + 1], xtol=1e-12))
        if (bias := _bias_variance(phi, q)) >= 0:
            source = "half-stable critical point, solved as in Roberts, Yaida and Hanin 2021"
            return CriticalInit(phi.name, _critical_std(phi, q), bias**0.5, "half-stable", source, exact=True, length=q)
    return None


def _on_critical_line(phi: Activation) -> CriticalInit | None:
    """A bounded φ at a small σ_b; one without bound at unit length, as inputs have it."""
    target = LINE_BIAS_STD**2
    if not _is_bounded(phi):
        q = 1.0
    elif _bias_variance(phi, _SMALL) < target < _bias_variance(phi, LARGEST_LENGTH):
        q = float(brentq(lambda at: _bias_variance(phi, at) - target, _SMALL, LARGEST_LENGTH, xtol=1e-12))
    else:
        return None
    bias = _bias_variance(phi, q)
    if bias < 0 or _length_excess(phi, q) > 0:
        return None
    source = "solved on the critical line (Poole et al. 2016, Schoenholz et al. 2017)"
    return CriticalInit(phi.name, _critical_std(phi, q), bias**0.5, "critical line", source, exact=True, length=q)


def _fallback(phi: Activation) -> CriticalInit:
    if _is_bounded(phi):
        weight_std = 1 / float(np.abs(phi.slope(_GRID)).max())
        chosen = "1/max φ', so that the steepest slope times the weights is 1"
    elif np.isfinite(moments(phi, _FAR).slope_square):
        weight_std, chosen = _critical_std(phi, _FAR), "1/E[φ'²] far from the origin, where it is nearly scale-free"
    else:
        weight_std, chosen = _critical_std(phi, 1.0), "1/E[φ'²] at unit length"
    return CriticalInit(phi.name, weight_std, 0.0, "fallback", f"no useful critical point: {chosen}", exact=False)


def _critical_std(phi: Activation, q: float) -> float:
    """The σ_w that makes χ₁ = 1 at this length."""
    return float(moments(phi, q).slope_square ** -0.5)


def _bias_variance(phi: Activation, q: float) -> float:
    """The σ_b² that keeps this length when χ₁ = 1; negative where none does."""
    m = moments(phi, q)
    return q - m.square / m.slope_square


def _length_excess(phi: Activation, q: float) -> float:
    """dq'/dq - 1 when χ₁ = 1: positive where a length runs away, negative where it is pulled back."""
    return length_slope(phi, q) / moments(phi, q).slope_square - 1


def _is_bounded(phi: Activation) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.abs(phi.value(np.array([-1e6, 1e6]))).max() < _FAR)
