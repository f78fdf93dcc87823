"""Activations as functions on float64 arrays: value, slope, and where the slope jumps.

Mean-field theory integrates them against a Gaussian; a quadrature that knows the kinks is exact to the last digits, one
that does not is wrong in the second. Nothing here imports torch unless it is given a function on tensors.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from graddoctor.errors import GraddoctorError

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity.

    Attributes
    ----------
    name
        What it is called, parameters included: ``"leaky_relu(0.2)"``.
    value, slope
        The function and its derivative on float64 arrays; at a kink the slope is either of the two.
    kinks
        Where value or derivatives jump. ``None``: unknown, so that a fine quadrature is needed.
    scale_free
        Whether ``value(c * x) == c * value(x)`` for every ``c > 0``: then no moment depends on the scale of the input.
    """

    name: str
    value: Function
    slope: Function
    kinks: tuple[float, ...] | None = ()
    scale_free: bool = False


def _linear() -> Activation:
    return Activation("linear", lambda x: x, np.ones_like, scale_free=True)


def _leaky(name: str, a: float) -> Activation:
    return Activation(
        name, lambda x: np.where(x > 0, x, a * x), lambda x: np.where(x > 0, 1.0, a), kinks=(0.0,), scale_free=True
    )


def _relu() -> Activation:
    return _leaky("relu", 0.0)


def _leaky_relu(a: float = 0.01) -> Activation:
    return _leaky(f"leaky_relu({a:g})", a)


def _prelu(a: float = 0.25) -> Activation:
    return _leaky(f"prelu({a:g})", a)


def _exponential_linear(name: str, scale: float, alpha: float, rate: float) -> Activation:
    """``scale * x`` above zero, ``scale * alpha * (exp(rate * x) - 1)`` below."""

    def value(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(rate * np.minimum(x, 0.0)))

    def slope(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha * rate * np.exp(rate * np.minimum(x, 0.0)))

    return Activation(name, value, slope, kinks=(0.0,))


def _elu(alpha: float = 1.0) -> Activation:
    return _exponential_linear("elu" if alpha == 1 else f"elu({alpha:g})", 1.0, alpha, 1.0)


def _celu(alpha: float = 1.0) -> Activation:
    return _exponential_linear("celu" if alpha == 1 else f"celu({alpha:g})", 1.0, alpha, 1.0 / alpha)


def _selu() -> Activation:
    return _exponential_linear("selu", SELU_SCALE, SELU_ALPHA, 1.0)


def _gelu() -> Activation:
    def slope(x: Array) -> Array:
        return np.asarray(ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))

    return Activation("gelu", lambda x: x * ndtr(x), slope)


def _gelu_tanh() -> Activation:
    scale, cubic = np.sqrt(2 / np.pi), 0.044715

    def value(x: Array) -> Array:
        return np.asarray(0.5 * x * (1 + np.tanh(scale * (x + cubic * x**3))))

    def slope(x: Array) -> Array:
        t = np.tanh(scale * (x + cubic * x**3))
        return np.asarray(0.5 * (1 + t) + 0.5 * x * (1 - t**2) * scale * (1 + 3 * cubic * x**2))

    return Activation("gelu_tanh", value, slope)


def _silu() -> Activation:
    return Activation("silu", lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x)))


def _softplus_of(x: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, x))


def _softplus() -> Activation:
    return Activation("softplus", _softplus_of, expit)


def _mish() -> Activation:
    def slope(x: Array) -> Array:
        t = np.tanh(_softplus_of(x))
        return np.asarray(t + x * (1 - t**2) * expit(x))

    return Activation("mish", lambda x: x * np.tanh(_softplus_of(x)), slope)


def _softsign() -> Activation:
    return Activation("softsign", lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, kinks=(0.0,))


def _sigmoid() -> Activation:
    return Activation("sigmoid", expit, lambda x: expit(x) * expit(-x))


def _tanh() -> Activation:
    return Activation("tanh", np.tanh, lambda x: np.cosh(np.clip(x, -300, 300)) ** -2.0)


def _clipped(name: str, low: float, high: float, rise: float = 1.0, shift: float = 0.0) -> Activation:
    """``rise * x + shift``, held between ``low`` and ``high``."""
    left, right = (low - shift) / rise, (high - shift) / rise
    return Activation(
        name,
        lambda x: np.clip(rise * x + shift, low, high),
        lambda x: np.where((x > left) & (x < right), rise, 0.0),
        kinks=(left, right),
    )


def _hardtanh(low: float = -1.0, high: float = 1.0) -> Activation:
    return _clipped("hardtanh" if (low, high) == (-1, 1) else f"hardtanh({low:g},{high:g})", low, high)


def _relu6() -> Activation:
    return _clipped("relu6", 0.0, 6.0)


def _hardsigmoid() -> Activation:
    return _clipped("hardsigmoid", 0.0, 1.0, rise=1 / 6, shift=0.5)


def _hardswish() -> Activation:
    def slope(x: Array) -> Array:
        return np.where(x > 3, 1.0, np.where(x > -3, x / 3 + 0.5, 0.0))  # noqa: PLR2004 - where PyTorch's pieces meet

    return Activation("hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0), slope, kinks=(-3.0, 3.0))


def _logsigmoid() -> Activation:
    return Activation("logsigmoid", lambda x: -_softplus_of(-x), lambda x: expit(-x))


def _erf() -> Activation:
    return Activation("erf", erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2)))


def _sin() -> Activation:
    return Activation("sin", np.sin, np.cos)


def _exp() -> Activation:
    return Activation("exp", np.exp, np.exp)


_FAMILIES: dict[str, Callable[..., Activation]] = {
    "linear": _linear,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "softsign": _softsign,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "logsigmoid": _logsigmoid,
    "erf": _erf,
    "sin": _sin,
    "exp": _exp,
}
_LARGEST = 1e6  # of a parameter
_ALIASES = {"identity": "linear", "swish": "silu", "logistic": "sigmoid"}
_SPELLINGS = {name.replace("_", ""): name for name in _FAMILIES} | _ALIASES

KNOWN: tuple[str, ...] = tuple(_FAMILIES)
"""The names that `resolve` understands; those with parameters also as ``"leaky_relu(0.2)"``."""


def resolve(activation: str | Activation | Callable[[Any], Any]) -> Activation:
    """Return the activation that a name, or a function on tensors, stands for.

    Parameters
    ----------
    activation
        A name of `KNOWN` in any spelling (``"ReLU"``, ``"hard_tanh"``), with parameters where it has some
        (``"leaky_relu(0.2)"``); an elementwise function or module on torch tensors; or an `Activation`, returned as is.

    Raises
    ------
    GraddoctorError
        For a name that is not known, parameters that do not fit, and a function that is not elementwise.

    Examples
    --------
    >>> resolve("LeakyReLU(0.2)").name
    'leaky_relu(0.2)'
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return _by_name(activation)
    if callable(activation):
        return _from_callable(activation)
    raise GraddoctorError(f"expected an activation's name or a function of a tensor, got {activation!r}")


@cache
def _by_name(text: str) -> Activation:
    match = re.fullmatch(r"\s*([A-Za-z][\w \-.]*?)\s*(?:\(([^()]*)\))?\s*", text)
    spelling = re.sub(r"[ _\-]", "", match[1].lower()).rpartition(".")[2] if match else ""
    if match is None or spelling not in _SPELLINGS:
        near = difflib.get_close_matches(spelling, _SPELLINGS, n=1)
        hint = f" (did you mean {_SPELLINGS[near[0]]!r}?)" if near else ""
        raise GraddoctorError(
            f"no activation is called {text!r}{hint}: expected one of {', '.join(KNOWN)}, or a function of a tensor"
        )
    try:
        parameters = [_number(part) for part in (match[2] or "").split(",") if part.strip()]
        return _FAMILIES[_SPELLINGS[spelling]](*parameters)
    except (TypeError, ValueError, ArithmeticError):
        raise GraddoctorError(
            f"{text!r}: the parameters of {_SPELLINGS[spelling]} do not fit: write numbers, as in 'leaky_relu(0.2)'"
        ) from None


def _number(text: str) -> float:
    number = float(text)
    if not abs(number) <= _LARGEST:
        raise ValueError(text)
    return number


def _from_callable(function: Callable[[Any], Any]) -> Activation:
    """Wrap a function on tensors; its slope comes from autograd, its kinks are unknown."""
    import torch  # noqa: PLC0415 - names alone need no torch, and importing it takes a second

    if isinstance(function, torch.nn.Module):
        function = copy.deepcopy(function).double().eval()
    name = getattr(function, "__name__", type(function).__name__)

    def both(x: Array) -> tuple[Array, Array]:
        with torch.enable_grad():
            leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            out = function(leaf.clone())  # a copy: the function may work in place
            if not isinstance(out, torch.Tensor) or out.shape != leaf.shape:
                came = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
                raise GraddoctorError(
                    f"{name} is not elementwise: a tensor of shape {tuple(leaf.shape)} gave {came}; "
                    "give a function that keeps the shape"
                )
            slope = torch.autograd.grad(out.sum(), leaf)[0] if out.requires_grad else torch.zeros_like(leaf)
        return np.asarray(out.detach(), dtype=np.float64), np.asarray(slope, dtype=np.float64)

    grid = np.linspace(-8.0, 8.0, 65)
    values = both(grid)[0]
    if not np.allclose(both(grid[:7])[0], values[:7], rtol=1e-6, atol=1e-9, equal_nan=True):
        raise GraddoctorError(
            f"{name} is not elementwise: its value at one place depends on the others, as in a softmax"
        )
    scale_free = all(np.allclose(both(c * grid)[0], c * values, rtol=1e-6, atol=1e-9) for c in (0.01, 2.0, 100.0))
    return Activation(name, lambda x: both(x)[0], lambda x: both(x)[1], kinks=None, scale_free=scale_free)
