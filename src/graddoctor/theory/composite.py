"""Functions of one pre-activation: an activation, or several operators that make one together (a GELU written out).

They are evaluated by calling the operators themselves, in float64, at the points of a quadrature; the slope with regard
to every intermediate result comes from the chain rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.activations import Activation, Array
from graddoctor.theory.quadrature import gaussian_rule

DEGREE = 48
"""Hermite polynomials that a correlation is expanded in."""

SMALLEST = 1e-280
"""A variance under this is none."""

_KINKS = (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0)
_BREAKS = (*np.linspace(-11.0, 11.0, 12).tolist(), -0.5, 0.5)  # in standard deviations: panels narrow enough for any


@dataclass(frozen=True)
class Composite:
    """What several calls make of one tensor, entry by entry.

    Attributes
    ----------
    root
        The tensor that they start from.
    calls
        In forward order; each reads the root, results of calls before it, and constants.
    """

    root: Ref
    calls: tuple[Call, ...]

    def then(self, call: Call, others: Sequence[Composite] = ()) -> Composite:
        """Add a call that reads only what is in here, or in others of the same root."""
        merged = {id(one): one for part in (self, *others) for one in part.calls}
        order = sorted(merged.values(), key=lambda one: one.out.index)
        return Composite(self.root, (*order, call))

    @property
    def name(self) -> str:
        """Kinds of its operators, as a reader knows them."""
        kinds = [call.kind for call in self.calls]
        return kinds[0] if len(kinds) == 1 else " of ".join(dict.fromkeys(reversed(kinds)))

    def values(self, x: Tensor) -> dict[int, Tensor]:
        """Every result at points of the root, by index."""
        found = {self.root.index: x}
        with torch.no_grad():
            for call in self.calls:
                found[call.out.index] = _apply(call, found)
        return found

    def slopes(self, values: Mapping[int, Tensor], out: int) -> dict[int, Tensor]:
        """Slopes of the result ``out`` with regard to the root and every intermediate result, by index."""
        slopes = {out: torch.ones_like(values[out])}
        for call in reversed(self.calls):
            above = slopes.get(call.out.index)
            if above is None:
                continue
            for index, partial in partials(call, values).items():
                slopes[index] = slopes.get(index, 0.0) + above * partial
        slopes.setdefault(self.root.index, torch.zeros_like(values[out]))  # behind a stop of the gradient
        return slopes


def partials(call: Call, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Slopes of one call with regard to what it reads, entry by entry."""
    wanted = list(dict.fromkeys(ref.index for ref in call.refs() if ref.index not in call.barred))
    leaves = {index: values[index].detach().clone().requires_grad_() for index in wanted}
    with torch.enable_grad():
        result = _apply(call, {**values, **leaves})
    if not leaves or not result.requires_grad:
        return {index: torch.zeros_like(leaf) for index, leaf in leaves.items()}
    found = torch.autograd.grad(result.sum(), list(leaves.values()), allow_unused=True)
    return {i: torch.zeros_like(leaves[i]) if g is None else g for i, g in zip(wanted, found, strict=True)}


def _apply(call: Call, values: Mapping[int, Tensor]) -> Tensor:
    """Call an operator on stand-ins, never in place."""

    def given(value: Any) -> Any:
        if isinstance(value, Ref):
            return values[value.index]
        if isinstance(value, Tensor):
            return value.detach().double().mean() if value.is_floating_point() else value
        return value

    arguments = [given(value) for value in call.arguments]
    options = {name: given(value) for name, value in call.options.items()}
    if call.kind == "prelu":
        return torch.where(arguments[0] > 0, arguments[0], arguments[0] * arguments[1])
    if call.function._schema.is_mutable:  # noqa: SLF001 - the operator's public description
        arguments[0] = arguments[0].clone()
    result: Tensor = call.function(*arguments, **options)
    return result


@lru_cache(maxsize=4096)
def nodes(variance: float, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    """Points and weights of a Gaussian, fine around the origin where activations bend."""
    sigma = float(np.sqrt(max(variance, SMALLEST)))
    kinks = (*(k - mean for k in _KINKS), *(b * sigma for b in _BREAKS))
    x, w = gaussian_rule(Activation("", _same, _same, kinks=kinks), variance)
    return torch.from_numpy(x + mean), torch.from_numpy(w)


def _same(x: Array) -> Array:
    return x


def spectra(functions: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    """Squared coefficients of functions (rows) in Hermite polynomials of standardised points; the last is what is left.

    E[f(u)f(v)] = Σ a_k² c^k for two Gaussians of correlation c (Daniely, Frostig and Singer 2016).
    """
    polynomials = torch.empty(DEGREE, len(z), dtype=torch.float64)
    polynomials[0], polynomials[1] = 1.0, z
    for k in range(1, DEGREE - 1):
        polynomials[k + 1] = (z * polynomials[k] - k**0.5 * polynomials[k - 1]) / (k + 1) ** 0.5
    found = ((functions * weights) @ polynomials.T).square()
    rest = (functions.square() @ weights - found.sum(1)).clamp(min=0)
    return torch.cat((found, rest[:, None]), dim=1)


def paired(coefficients: Tensor, correlation: float) -> float:
    """E[f(u)f(v)] at a correlation."""
    c = min(max(correlation, -1.0), 1.0)
    powers = torch.tensor([c**k for k in range(DEGREE)] + [abs(c) ** (2 * DEGREE)], dtype=torch.float64)
    return float(coefficients @ powers)
