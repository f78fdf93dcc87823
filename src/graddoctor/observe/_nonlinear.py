"""The nonlinearities: their slopes, and what counts as dead or saturated for each.

``slope`` is evaluated by the derivative that torch itself uses in backward, with a gradient of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Slope = Callable[[Tensor, Tensor, "tuple[Any, ...]", "Mapping[str, Any]"], Tensor]  # (input, output, args, kwargs)

SELU_SCALE = 1.0507009873554805


@dataclass(frozen=True)
class Nonlinearity:
    """One function: its derivative and that one's largest magnitude.

    ``from_output`` tells that the slope can be had from the result alone; ``one_sided`` functions can die (output and
    slope zero), ``bounded`` ones saturate.
    """

    kind: str
    slope: Slope | None = None
    steepest: float = 1.0
    one_sided: bool = False
    bounded: bool = False
    from_output: bool = False


def _one(x: Tensor) -> Tensor:
    return x.new_ones(()).expand_as(x)


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    value = args[place] if len(args) > place else kwargs.get(name)
    return default if value is None else value


def _relu(_x: Tensor, y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return (y > 0).to(torch.float32)


def _sigmoid(_x: Tensor, y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    y = y.float()
    slope: Tensor = y * (1 - y)
    return slope


def _tanh(_x: Tensor, y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    slope: Tensor = 1 - y.float().square()
    return slope


def _softsign(_x: Tensor, y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return (1 - y.float().abs()).square()


def _leaky(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    slope: float = _argument(a, k, 1, "negative_slope", 0.01)
    return torch.where(x > 0, 1.0, slope)


def _elu(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    alpha, scale, inner = (
        _argument(a, k, i + 1, name, 1.0) for i, name in enumerate(("alpha", "scale", "input_scale"))
    )
    result: Tensor = aten.elu_backward(_one(x), alpha, scale, inner, False, x)
    return result


def _celu(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    alpha: float = _argument(a, k, 1, "alpha", 1.0)
    return torch.where(x > 0, torch.ones_like(x), torch.exp(x.clamp(max=0) / alpha))


def _gelu(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    result: Tensor = aten.gelu_backward(_one(x), x, approximate=_argument(a, k, 1, "approximate", "none"))
    return result


def _silu(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    result: Tensor = aten.silu_backward(_one(x), x)
    return result


def _mish(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    result: Tensor = aten.mish_backward(_one(x), x)
    return result


def _softplus(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    beta, limit = _argument(a, k, 1, "beta", 1), _argument(a, k, 2, "threshold", 20)
    result: Tensor = aten.softplus_backward(_one(x), x, beta, limit)
    return result


def _hardtanh(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    low, high = _argument(a, k, 1, "min_val", -1.0), _argument(a, k, 2, "max_val", 1.0)
    inside: Tensor = (x > low) & (x < high)
    return inside.to(torch.float32)


def _clamp(x: Tensor, _y: Tensor, a: tuple[Any, ...], k: Mapping[str, Any]) -> Tensor:
    low, high = _argument(a, k, 1, "min", -torch.inf), _argument(a, k, 2, "max", torch.inf)
    inside: Tensor = (x > low) & (x < high)
    return inside.to(torch.float32)


def _hardsigmoid(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return (x.abs() < 3).to(torch.float32) / 6  # noqa: PLR2004 - its definition: clip(x/6 + 1/2, 0, 1)


def _hardswish(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    result: Tensor = aten.hardswish_backward(_one(x), x)
    return result


def _logsigmoid(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return torch.sigmoid(-x)


def _prelu(x: Tensor, _y: Tensor, a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return torch.where(x > 0, torch.ones_like(x), a[1].to(x.dtype))


def _sin(x: Tensor, _y: Tensor, _a: tuple[Any, ...], _k: Mapping[str, Any]) -> Tensor:
    return torch.cos(x)


_RELU = Nonlinearity("relu", _relu, one_sided=True, from_output=True)
_RELU6 = Nonlinearity("relu6", _hardtanh, one_sided=True, bounded=True)
_SELU = Nonlinearity("selu", _elu, steepest=SELU_SCALE * 1.6732632423543772)
SOFTSIGN = Nonlinearity("softsign", _softsign, bounded=True, from_output=True)

_TABLE = {
    f.kind: f
    for f in (
        _RELU,
        Nonlinearity("leaky_relu", _leaky),
        Nonlinearity("elu", _elu),
        Nonlinearity("celu", _celu),
        Nonlinearity("gelu", _gelu, steepest=1.12904, one_sided=True),
        Nonlinearity("silu", _silu, steepest=1.09984, one_sided=True),
        Nonlinearity("mish", _mish, steepest=1.08850, one_sided=True),
        Nonlinearity("softplus", _softplus, one_sided=True),
        Nonlinearity("sigmoid", _sigmoid, steepest=0.25, bounded=True, from_output=True),
        Nonlinearity("tanh", _tanh, bounded=True, from_output=True),
        Nonlinearity("hardtanh", _hardtanh, bounded=True),
        Nonlinearity("hardsigmoid", _hardsigmoid, steepest=1 / 6, one_sided=True, bounded=True),
        Nonlinearity("hardswish", _hardswish, steepest=1.5, one_sided=True),
        Nonlinearity("logsigmoid", _logsigmoid),
        Nonlinearity("prelu", _prelu),
        Nonlinearity("rrelu"),
        Nonlinearity("sin", _sin),
        Nonlinearity("exp"),
        Nonlinearity("glu"),
        Nonlinearity("softmax"),
        Nonlinearity("log_softmax"),
        Nonlinearity("clamp", _clamp, bounded=True),
    )
}


def nonlinearity(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Nonlinearity | None:
    """Which nonlinearity a call of the operator ``kind`` is, if any; ``clamp(min=0)`` is ReLU."""
    if kind == "hardtanh" and args[1:3] == (0, 6):
        return _RELU6
    if kind == "elu" and _argument(args, kwargs, 2, "scale", 1.0) != 1.0:
        return _SELU
    if kind == "threshold":
        return _RELU if args[1:3] == (0, 0) else None
    return _clamped(args, kwargs) if kind in {"clamp", "clamp_min"} else _TABLE.get(kind)


def _clamped(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Nonlinearity | None:
    low, high = _argument(args, kwargs, 1, "min", None), _argument(args, kwargs, 2, "max", None)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or low is None:
        return None
    if high is None:
        return _RELU if low == 0 else None
    return _TABLE["clamp"]
