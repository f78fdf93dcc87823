"""The layers of a network as a phase diagram has them: the scale of weights and biases, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref, Tape
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
        What it feeds, as a name that `graddoctor.theory.resolve` knows or as the operators that make it; ``""``:
        nothing that is a function of it entry by entry.
    length
        E[z²] of its output.
    """

    name: str
    weight_std: float
    bias_std: float
    activation: str
    length: float


def layers_of(tape: Tape, laws: Propagation, names: Mapping[int, str]) -> tuple[Layer, ...]:
    """List the layers of weights in forward order; ``names``: whose weight each node uses."""
    follows = _following(tape, laws)
    found = []
    for call in tape.calls:
        weights = _weights(call)
        if weights is None or call.number not in names:
            continue
        weight, bias, fan_in = weights
        sigma = float(torch.linalg.vector_norm(weight.detach().float())) / max(weight.numel(), 1) ** 0.5
        spread = 0.0 if bias is None else float(bias.detach().float().square().mean()) ** 0.5
        length = laws.law(call.out.index).average
        name = names[call.number]
        found.append(Layer(name, sigma * fan_in**0.5, spread, follows.get(call.out.index, ""), length))
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


def _following(tape: Tape, laws: Propagation) -> dict[int, str]:
    """By the index of a layer's output: the nonlinearity that reads it, through views."""
    origin: dict[int, int] = {}
    found: dict[int, str] = {}
    for call in tape.calls:
        refs = list(call.refs())
        if call.kind in _THROUGH and refs:
            origin[call.out.index] = origin.get(refs[0].index, refs[0].index)
        composite = laws.composites.get(call.out.index)
        if composite is not None and call.kind not in {"mul", "div", "add", "sub"}:
            root = composite.root.index
            found[origin.get(root, root)] = activation_of(composite)
    return found


def activation_of(composite: Composite) -> str:
    """What an activation is called, with its parameter where that matters."""
    call = composite.calls[-1]
    if len(composite.calls) > 1:
        return composite.name
    if call.kind == "elu" and len(call.arguments) > 2 and call.arguments[2] != 1:  # noqa: PLR2004 - SELU's scale
        return "selu"
    if call.kind == "leaky_relu":
        slope = call.arguments[1] if len(call.arguments) > 1 else 0.01
        return f"leaky_relu({slope:g})"
    if call.kind == "prelu":
        return f"prelu({float(call.arguments[1].mean()):g})"
    if call.kind == "gelu" and call.options.get("approximate") == "tanh":
        return "gelu_tanh"
    if call.kind == "hardtanh" and call.arguments[1:3] == (0, 6):
        return "relu6"
    return call.kind
