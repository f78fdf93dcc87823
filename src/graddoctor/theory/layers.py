"""The layers of a network as a phase diagram has them: the scale of weights and biases, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref, Tape
from graddoctor.theory.activations import KNOWN, Activation, Array, resolve
from graddoctor.theory.composite import Composite
from graddoctor.theory.propagation import Propagation

_LINEAR = frozenset({"linear", "convolution"})
_THROUGH = frozenset({"view", "dropout", "t", "transpose", "permute", "unsqueeze", "squeeze", "flatten", "clone"})


@dataclass(frozen=True)
class Layer:
    """One layer of weights.

    Attributes
    ----------
    name
        Of its module.
    weight_std
        σ_w: root of E[W²], times √fan_in.
    bias_std
        σ_b: root of E[b²].
    activation
        Name of what it feeds, by its operators where it is not a known one; ``""``: nothing that is a function of it
        entry by entry.
    length
        E[z²] of its output.
    phi
        The activation itself.
    """

    name: str
    weight_std: float
    bias_std: float
    activation: str
    length: float
    phi: Activation | None = field(default=None, repr=False, compare=False)


def layers_of(tape: Tape, laws: Propagation, names: Mapping[int, str], end: int | None = None) -> tuple[Layer, ...]:
    """List the layers of weights in forward order.

    ``names``: whose weight each node uses. ``end``: the number of the first node behind the network, of the loss.
    """
    calls = [call for call in tape.calls if end is None or call.number < end]
    follows = _following(calls, laws)
    found = []
    for call in calls:
        weights = _weights(call)
        if weights is None or call.number not in names:
            continue
        weight, bias, fan_in = weights
        sigma = float(torch.linalg.vector_norm(weight.detach().float())) / max(weight.numel(), 1) ** 0.5
        spread = 0.0 if bias is None else float(bias.detach().float().square().mean()) ** 0.5
        length = laws.law(call.out.index).average
        name = names[call.number]
        phi = follows.get(call.out.index)
        found.append(Layer(name, sigma * fan_in**0.5, spread, phi.name if phi else "", length, phi))
    return tuple(found)


def _weights(call: Call) -> tuple[Tensor, Tensor | None, int] | None:
    """Weight, bias and fan-in of a layer."""
    if call.kind == "convolution":
        weight, bias = call.arguments[1], call.arguments[2]
        if not isinstance(weight, Tensor) or call.arguments[6]:
            return None
        return weight, bias if isinstance(bias, Tensor) else None, weight[0].numel()
    if call.kind != "linear":
        return None
    *bias, left, right = (value for value in call.arguments if isinstance(value, (Tensor, Ref)))
    weight = left if isinstance(left, Tensor) else right
    if not isinstance(weight, Tensor):
        return None
    return weight, bias[0] if bias and isinstance(bias[0], Tensor) else None, int(left.shape[-1])


def _following(calls: Sequence[Call], laws: Propagation) -> dict[int, Activation]:
    """By the index of a layer's output: the nonlinearity that reads it, through views."""
    origin: dict[int, int] = {}
    found: dict[int, Activation] = {}
    last: dict[int, Composite] = {}
    for call in calls:
        refs = list(call.refs())
        if call.kind in _THROUGH and refs:
            origin[call.out.index] = origin.get(refs[0].index, refs[0].index)
        composite = laws.composites.get(call.out.index)
        if composite is not None:
            last[composite.root.index] = composite
    for root, composite in last.items():
        phi = activation_of(composite)
        if phi.name != "linear" and not _is_scale(composite):
            found[origin.get(root, root)] = phi
    return found


def _is_scale(composite: Composite) -> bool:
    """Whether it multiplies with a number, and nothing else."""
    at = torch.tensor([-30.0, -2.0, -1.0, 1.0, 2.0, 30.0], dtype=torch.float64)
    ratios = composite.values(at)[composite.calls[-1].out.index] / at
    return bool((ratios - ratios[0]).abs().max() < 1e-9)  # noqa: PLR2004 - rounding


def activation_of(composite: Composite) -> Activation:
    """Recognise an activation by its values, however it is written; others keep the names of their operators."""
    out = composite.calls[-1].out.index
    near = torch.linspace(-4.1, 4.1, 42, dtype=torch.float64)
    grid = torch.cat([near, torch.tensor([-30.0, -7.0, -5.3, 5.3, 7.0, 30.0], dtype=torch.float64)])  # bounds lie there
    values = composite.values(grid)[out].numpy()
    for name in (*KNOWN, *_with_parameter(composite.calls[-1])):
        known = resolve(name)
        if np.allclose(known.value(grid.numpy()), values, rtol=1e-6, atol=1e-7):
            return known

    def value(x: Array) -> Array:
        return np.asarray(composite.values(torch.from_numpy(x))[out])

    def slope(x: Array) -> Array:
        seen = composite.values(torch.from_numpy(x))
        return np.asarray(composite.slopes(seen, out)[composite.root.index])

    return Activation(composite.name, value, slope, kinks=None)


def _with_parameter(call: Call) -> Iterator[str]:
    """Names of activations whose parameter may be any."""
    given = call.arguments[1] if len(call.arguments) > 1 else None
    number = float(given.detach().mean()) if isinstance(given, Tensor) else given
    if call.kind in {"leaky_relu", "prelu", "elu", "celu"} and isinstance(number, (int, float)):
        yield f"{call.kind}({float(number)!r})"
