"""What each parameter of a network is to a start: a weight with a fan-in and what follows it, a bias, a gain."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from graddoctor.remedies.functions import ACTIVATIONS
from graddoctor.remedies.reading import Reading
from graddoctor.remedies.survey import WeightRole

_GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}
"""Matrices that are stacked in the weights of a recurrent module, and vectors in its biases."""
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)  # noqa: SLF001 - of all BatchNorms
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


@dataclass(frozen=True)
class Slot:
    """One parameter, or one buffer of running statistics.

    Attributes
    ----------
    name
        As the plan of a start names it. A parametrised weight goes by the path of the weight that it computes.
    kind
        What it is; ``"gain"`` scales normalized values, ``"gates"`` are biases that decide what a cell remembers.
    value
        As it is.
    fan_in, fan_out
        Of a weight: products that are summed to one output, and outputs that one input reaches.
    follower
        The nonlinearity that a weight's product (with a bias: the sum) runs into; ``""``: none.
    stacked
        Matrices that are stacked in a weight's rows: the gates of a recurrent layer, the projections of attention.
    branch_end
        Whether a weight's product is added to a residual stream.
    share
        What such a weight is scaled by, so that all branches together add as much as the stream has.
    seen
        Whether the forward pass was seen to multiply with it.
    recurrent
        Whether a weight is applied to a state that it has made, time step after time step.
    std
        Of a weight of a recurrence: the standard deviation that it should start with, whatever follows it.
    identity
        Whether it is applied to a state that is rectified, and should start at the identity: orthogonal ones would
        lose half of the units in every step.
    module
        The module that has it.
    """

    name: str
    kind: Literal["weight", "bias", "embedding", "gain", "statistic", "gates"]
    value: torch.Tensor = field(repr=False)
    module: nn.Module = field(repr=False)
    fan_in: int = 1
    fan_out: int = 1
    follower: str = ""
    stacked: int = 1
    branch_end: bool = False
    share: float = 1.0
    seen: bool = False
    recurrent: bool = False
    std: float | None = None
    identity: bool = False


def slots(model: nn.Module, reading: Reading, only: Collection[str] | None = None) -> tuple[Slot, ...]:
    """Collect what can be started again, in the order of registration; what is tied appears once.

    Left out is what is frozen, since it may be pretrained, and what is not understood: parameters of a user's own that
    the forward pass was not seen to multiply with, such as place embeddings or gates.

    Parameters
    ----------
    reading
        Names the nonlinearity behind each weight. What it does not know is told from the modules that follow each
        other in the order of registration.
    only
        Modules, or parameters, by name; all of them if not given.
    """
    found = _Finder(model, reading)
    every = chain.from_iterable(found.of(prefix, module) for prefix, module in model.named_modules())
    return tuple(slot for slot in every if only is None or any(within(slot.name, name) for name in only))


def within(name: str, part: str) -> bool:
    """Whether a parameter is a part of a module, by their names."""
    return not part or name == part or name.startswith(part + ".")


class _Finder:
    def __init__(self, model: nn.Module, reading: Reading) -> None:
        self.names = {id(p): name for name, p in model.named_parameters()}  # a tied one has its first name
        self.weights, self.shares, self.loops = reading.weights, reading.shares, reading.loops
        self.fed = {name: loop for loop in self.loops.values() for name in loop.inputs}
        self.steps = reading.steps
        self.nearby = _followers(model)
        hidden = reading.survey.hidden if reading.survey else ()
        hidden = hidden or tuple(kind for kind in self.nearby.values() if kind)
        self.usual = max(hidden, key=hidden.count) if hidden else ""

    def of(self, prefix: str, module: nn.Module) -> Iterator[Slot]:
        if not {"parametrizations", "state_gate"}.isdisjoint(prefix.split(".")):
            return
        for short in getattr(module, "parametrizations", {}):
            value = getattr(module, short).detach()
            name = f"{prefix}.{short}".lstrip(".")
            if value.ndim > 1 and _assignable(module, short):
                yield self._weight(name, short, module, value)
        for short, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{short}".lstrip(".")
            if _startable(parameter) and self.names.get(id(parameter)) == name:
                yield from self._parameter(name, short, module, parameter.detach())
        if isinstance(module, _NORMS):
            for short, value in module.named_buffers(recurse=False):
                if short in _STATISTICS:
                    yield Slot(f"{prefix}.{short}".lstrip("."), "statistic", value, module)

    def _parameter(self, name: str, short: str, module: nn.Module, value: torch.Tensor) -> Iterator[Slot]:
        role = self.weights.get(name)
        if short in {"weight_g", "weight_v"} and role is None:  # length and direction: neither is a scale alone
            return
        bias = "bias" in short or (isinstance(module, nn.ParameterList) and "bias" in name)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            yield Slot(name, "embedding", value, module)
        elif role is None and normalizes(module):
            own = not isinstance(module, _NORMS) and not value.any()  # one that adds 1 to it, as some do
            if bias or (short == "weight" and not own):
                yield Slot(name, "bias" if bias else "gain", value, module)
        elif value.ndim > 1 and (role is not None or ("weight" in short and not bias)):
            yield self._weight(name, short, module, value)
        elif value.ndim == 1 and bias:
            weight = self.weights.get(partner(name))
            kind: Literal["bias", "gates"] = "gates" if stacked_in(module) > 1 else "bias"
            yield Slot(name, kind, value, module, follower=weight.activation if weight else "")

    def _weight(self, name: str, short: str, module: nn.Module, value: torch.Tensor) -> Slot:
        role, stacked = self.weights.get(name), _stacked(short, module, value)
        fan_in = max(role.fan_in if role else _fan_in(module, value), 1)
        fan_out = _fan_out(value.shape, fan_in, stacked)
        recurrent = name in self.loops or (short.startswith("weight_hh") and stacked_in(module) > 0)
        return Slot(
            name,
            "weight",
            value,
            module,
            fan_in=fan_in,
            fan_out=fan_out,
            follower=self._follower(role, name, short, module),
            stacked=stacked,
            branch_end=name in self.shares,
            share=self.shares.get(name, 1.0),
            seen=role is not None,
            recurrent=recurrent,
            identity=recurrent and self._rectified(name, module) and len(set(value.shape)) == 1,
            std=self._recurrent_std(name, short, module, (fan_in, fan_out), recurrent=recurrent),
        )

    def _rectified(self, name: str, module: nn.Module) -> bool:
        kind = self.loops[name].activation if name in self.loops else getattr(module, "nonlinearity", "")
        return kind in {"relu", "leaky_relu"}

    def _recurrent_std(
        self, name: str, short: str, module: nn.Module, fans: tuple[int, int], *, recurrent: bool
    ) -> float | None:
        """Orthogonal on the state; Xavier on the inputs, or so small that they fill a state only all together."""
        if recurrent:
            return (self.loops[name].gain if name in self.loops else 1.0) / math.sqrt(min(fans))
        xavier, gates = math.sqrt(2 / sum(fans)), stacked_in(module)
        if name in self.fed:
            loop = self.fed[name]
            return loop.input_gain * (min(xavier, (loop.steps * fans[0]) ** -0.5) if loop.activation else xavier)
        if not (short.startswith("weight_ih") and gates):
            return None
        steps, _ = self.steps.get(name.rpartition(".")[0], (0, False))
        first = gates == 1 and short in {"weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"}
        return min(xavier, (steps * fans[0]) ** -0.5) if first and steps else xavier

    def _follower(self, role: WeightRole | None, name: str, short: str, module: nn.Module) -> str:
        if stacked_in(module) or short == "in_proj_weight":
            return ""
        return role.activation if role else self.nearby.get(name.rpartition(".")[0], self.usual)


def normalizes(module: nn.Module) -> bool:
    """Whether a module is a normalization: one of torch's, or of a kind that keeps an epsilon as they do."""
    return isinstance(module, _NORMS) or hasattr(module, "eps") or hasattr(module, "variance_epsilon")


def partner(bias: str) -> str:
    """Name of the weight that goes with a bias."""
    return bias.replace("biases", "weights").replace("bias", "weight")


def stacked_in(module: nn.Module) -> int:
    """How many matrices a recurrent layer or cell of torch stacks in one weight; 0 for other modules."""
    return next((count for kind, count in _GATES.items() if isinstance(module, kind)), 0)


def _startable(parameter: nn.Parameter) -> bool:
    wide = parameter.is_floating_point() and parameter.element_size() > 1
    return wide and parameter.requires_grad and parameter.layout is torch.strided and parameter.numel() > 0


def _assignable(module: nn.Module, short: str) -> bool:
    """Whether a parametrised tensor takes a new value, tried on a copy."""
    if not any(p.requires_grad for p in module.parametrizations[short].parameters()):  # type: ignore[index, union-attr]
        return False
    with suppress(Exception), torch.no_grad():
        twin = copy.deepcopy(module)
        setattr(twin, short, 2 * getattr(twin, short))
        return True
    return False


def _stacked(short: str, module: nn.Module, value: torch.Tensor) -> int:
    gates = max(1, stacked_in(module)) if short.startswith(("weight_ih", "weight_hh")) else 1
    stacked = 3 if short == "in_proj_weight" else gates
    return stacked if value.shape[0] % stacked == 0 else 1


def _fan_in(module: nn.Module, value: torch.Tensor) -> int:
    """As the kind of the module has it."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # noqa: SLF001 - the base of the three of them
        return value.shape[0] * math.prod(value.shape[2:]) // (math.prod(module.stride) * module.groups)
    return math.prod(value.shape[1:])


def _fan_out(shape: torch.Size, fan_in: int, stacked: int) -> int:
    """Rows or columns of a matrix, whichever is not summed over; of a convolution channels times places."""
    places = math.prod(shape[2:])
    if len(shape) > 2 and fan_in == math.prod(shape[1:]):  # noqa: PLR2004 - a convolution
        return shape[0] * places
    if len(shape) > 2:  # noqa: PLR2004 - a transposed one, or a stack of matrices
        return shape[1] * places
    return max(1, math.prod(shape) // max(fan_in, 1) // stacked)


def _followers(model: nn.Module) -> dict[str, str]:
    """Nonlinearity that comes next among the modules, by the name of the module with the weight.

    Of two weights in a row the first is not in it: a function may stand between them, or one activation serve them all.
    """
    found: dict[str, str] = {}
    waiting = ""
    for prefix, module in model.named_modules():
        if next(module.children(), None) is not None and not parametrize.is_parametrized(module):
            continue
        kind = _kind(module)
        if kind and waiting:
            found[waiting], waiting = kind, ""
        elif any(p.ndim > 1 for p in module.parameters()):
            waiting = prefix
    return found | ({waiting: ""} if waiting and found else {})


def _kind(module: nn.Module) -> str:
    """Name of the function that a module stands for, if it is a nonlinearity or a normalization."""
    if isinstance(module, _NORMS):
        return "normalization"
    name = type(module).__name__.lower()
    return next((kind for kind in ACTIVATIONS if kind.replace("_", "") == name), "")
