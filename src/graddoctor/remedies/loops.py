"""Weights that a forward pass applies to what they gave before: the state of a recurrence that is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graddoctor.remedies.calls import Call
from graddoctor.remedies.functions import (
    ACTIVATIONS,
    ADDITIONS,
    LINEAR,
    RESHAPING,
    SCALING,
    in_place,
    name_of,
    tensors_in,
)
from graddoctor.remedies.survey import Reader

_HANDS_ON = ADDITIONS | SCALING | RESHAPING | {"chunk", "split", "unbind", "select", "narrow", "clone"}
_NOTHING: frozenset[str] = frozenset()
_GAINS = {"sigmoid": (4.0, 2.0), "hardsigmoid": (6.0, 3.0)}


@dataclass(frozen=True)
class Loop:
    """A weight that is multiplied with a state which depends on its own earlier products.

    Attributes
    ----------
    weight
        Its name.
    steps
        How often it is used in one pass.
    activation
        The one nonlinearity that its products run into; ``""`` where there are several, as in gates, or none.
    inputs, biases
        Other weights whose products are added to its own before the nonlinearity, and what is added as it is.
    """

    weight: str
    steps: int
    activation: str = ""
    inputs: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """What the singular values of the weight should be, so that the gradient of a small state keeps its norm.

        A sigmoid is a tanh of half its input, halved and raised by a half, and so asks for four times as much.
        """
        return _GAINS.get(self.activation, (1.0, 1.0))[0]

    @property
    def input_gain(self) -> float:
        """What Xavier weights of the inputs are multiplied by to fill as much of the nonlinearity as in a tanh."""
        return _GAINS.get(self.activation, (1.0, 1.0))[1]


class LoopReader(Reader):
    """A reader that also knows which weights each tensor depends on, and which sums meet each nonlinearity."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.vectors = {id(p): name for name, p in model.named_parameters() if p.ndim == 1}
        self.upstream: dict[int, frozenset[str]] = {}
        self.sums: dict[int, frozenset[str]] = {}  # parameters whose products, or who, were added up to a tensor
        self.uses: dict[str, int] = {}
        self.fed_back: dict[str, None] = {}
        self.followers: dict[str, set[str]] = {}
        self.mates: dict[str, set[str]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, given = name_of(func), tensors_in([args, kwargs])
        upstream = frozenset().union(*(self.upstream.get(id(t), _NOTHING) for t in given))
        sums = frozenset().union(*(self.sums.get(id(t), _NOTHING) for t in given))
        result = super().__torch_function__(func, types, args, kwargs)
        outs = tensors_in(result)
        if name == "__setitem__" or in_place(func, kwargs, args):
            outs = [*given[:1], *outs]
        if name in LINEAR and outs:
            weights = self._used(Call(func, name, args, kwargs, outs[0]), upstream)
            upstream, sums = upstream | weights, weights | self._vectors(given)
        elif name in ACTIVATIONS:
            self._met(name, sums)
            sums = _NOTHING
        else:
            sums = sums | self._vectors(given) if name in _HANDS_ON else _NOTHING
        self.kept.append(outs)
        self.upstream |= {id(out): upstream for out in outs}
        self.sums |= {id(out): sums for out in outs}
        return result

    def _used(self, call: Call, upstream: frozenset[str]) -> frozenset[str]:
        """Count the weights of a product; those that what they are multiplied with depends on are fed back."""
        tensors = tensors_in([call.args, call.kwargs])
        weights = {self.sources.get(id(t), self.names.get(id(t), "")) for t in tensors if t.ndim > 1} - {""}
        for weight in weights:
            self.uses[weight] = self.uses.get(weight, 0) + 1
            if weight in upstream:
                self.fed_back[weight] = None
        return frozenset(weights)

    def _vectors(self, given: list[torch.Tensor]) -> frozenset[str]:
        return frozenset(self.vectors[id(t)] for t in given if id(t) in self.vectors)

    def _met(self, name: str, sums: frozenset[str]) -> None:
        for parameter in sums:
            self.followers.setdefault(parameter, set()).add(name)
            self.mates.setdefault(parameter, set()).update(sums - {parameter})

    def loops(self) -> dict[str, Loop]:
        """Return the weights that were fed back, by name."""
        return {weight: self._loop(weight) for weight in self.fed_back if "state_gate" not in weight.split(".")}

    def _loop(self, weight: str) -> Loop:
        kinds, mates = self.followers.get(weight, set()), self.mates.get(weight, set())
        vectors = set(self.vectors.values())
        return Loop(
            weight,
            self.uses[weight],
            next(iter(kinds)) if len(kinds) == 1 else "",
            tuple(name for name in self.names.values() if name in mates - vectors and name not in self.fed_back),
            tuple(name for name in self.names.values() if name in mates & vectors),
        )
