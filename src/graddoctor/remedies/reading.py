"""One reading of a network before it is started again: its survey, and its residual branches."""

from __future__ import annotations

import copy
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import Node
from torch.nn.utils import parametrize

from graddoctor.recipe import Recipe
from graddoctor.remedies.calls import Call
from graddoctor.remedies.functions import ADDITIONS, name_of, tensors_in
from graddoctor.remedies.loops import Loop, LoopReader
from graddoctor.remedies.steps import Steps, counted_steps
from graddoctor.remedies.survey import Survey, WeightRole, read_forward

_THROUGH = ("View", "UnsafeView", "Reshape", "Transpose", "Permute", "Squeeze", "Unsqueeze", "Clone", "Mul", "Div")
_ENDS = ("Addmm", "Mm", "Bmm", "Convolution", "NativeBatchNorm", "NativeLayerNorm", "NativeGroupNorm", "Cudnn", "Mul")
_LEAF = "AccumulateGrad"


@dataclass(frozen=True)
class Branch:
    """One branch that is added to a stream.

    Attributes
    ----------
    end
        The last parameter of it, a weight or the gain of a normalization: with zeros there it adds nothing but a bias.
    inner
        The other weights in it.
    """

    end: str
    inner: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What a forward pass does with each weight; empty where it cannot be read call by call.

    Attributes
    ----------
    survey
        With parametrised weights under the paths of what they compute.
    branches
        One for each residual addition, in the order of the additions.
    first
        Weights that are multiplied with the data themselves.
    loops
        Weights that are multiplied with a state which they have made, by name.
    steps
        Time steps of torch's recurrent modules, and whether their sequences came packed.
    """

    survey: Survey | None = None
    branches: tuple[Branch, ...] = ()
    first: frozenset[str] = frozenset()
    loops: dict[str, Loop] = field(default_factory=dict)
    steps: Steps = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, WeightRole]:
        """The part that each weight plays."""
        return self.survey.weights if self.survey else {}

    @property
    def normalized(self) -> bool:
        """Whether anything is normalized."""
        return self.survey is not None and self.survey.normalizations > 0

    @cached_property
    def shares(self) -> dict[str, float]:
        """What the last weight of each branch is scaled by so that all branches add as much as the stream has."""
        ends = Counter(branch.end for branch in self.branches if branch.end in self.weights)
        return dict.fromkeys(ends, 1 / math.sqrt(max(ends.total(), 1)))


def read(recipe: Recipe, model: nn.Module, batch: Any) -> Reading:
    """Read one forward pass of a model, leaving model and random state as they were."""
    steps: Steps = {}
    try:
        model = bare(model)
        reader = _Additions(model)
        with counted_steps(model) as steps, torch.enable_grad():
            output = read_forward(recipe, model, reader, batch)
        branches = tuple(_branches(model, reader))
        return Reading(reader.survey(output), branches, frozenset(reader.first), reader.loops(), steps)
    except Exception:  # noqa: BLE001 - what cannot be read can still be started again by its modules
        return Reading(steps=steps)


def bare(model: nn.Module) -> nn.Module:
    """Make a copy whose parametrised tensors are parameters; the model itself where it has none."""
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return model
    twin = copy.deepcopy(model)
    for module in [m for m in twin.modules() if parametrize.is_parametrized(m)]:
        values = {short: getattr(module, short).detach().clone() for short in module.parametrizations}  # type: ignore[union-attr]
        module.__class__ = parametrize.type_before_parametrizations(module)  # its own is shared with the original
        del module.parametrizations
        for short, value in values.items():
            module.register_parameter(short, nn.Parameter(value))
    return twin


def _branches(model: nn.Module, reader: _Additions) -> Iterator[Branch]:
    """Find the residual branches by the autograd graph.

    Where two tensors of one shape are added, their ways back are followed until they join. The one that passes by more
    weights is the branch, if the other passes by none (an identity) or one (a projection), and they share none, as the
    steps of a recurrence do. What ends in a nonlinearity, or in something frozen, is left out.
    """
    sizes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    for one, other in reader.pairs:
        ways = [[name for name in way if sizes[name] > 1] for way in reader.ways(one, other)]
        (short, _), (long, node) = sorted(zip(ways, (one, other), strict=True), key=lambda pair: len(pair[0]))
        end = reader.end(node) if len(short) < min(len(long), 2) and not set(short) & set(long) else ""
        if end:
            yield Branch(end, tuple(name for name in long if name != end))


class _Additions(LoopReader):
    """Remembers the graph nodes of the tensors that are added to each other, and what is multiplied with data."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.pairs: list[tuple[Node, Node]] = []
        self.first: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if name_of(func) in ADDITIONS:
            tensors = [t for t in tensors_in([args, kwargs or {}]) if t.grad_fn is not None]
            if len(tensors) == 2 and tensors[0].shape == tensors[1].shape:  # noqa: PLR2004 - one and the other
                self.pairs.append((tensors[0].grad_fn, tensors[1].grad_fn))  # type: ignore[arg-type]
        return super().__torch_function__(func, types, args, kwargs)

    def linear(self, call: Call) -> None:
        """Read a product, and whether it is one with data."""
        known = set(self.weights)
        super().linear(call)
        others = [t for t in tensors_in([call.args, call.kwargs]) if id(t) not in self.names and t.ndim > 1]
        if not any(t.requires_grad for t in others if id(t) not in self.sources):
            self.first |= set(self.weights) - known

    def ways(self, one: Node, other: Node) -> tuple[list[str], list[str]]:
        """Return the parameters on the way back from each of two nodes to where they join."""
        order = itertools.count()
        heap = [(-n._sequence_nr(), next(order), n) for n in {one, other}]  # noqa: SLF001 - the order of creation
        heapq.heapify(heap)
        sides = {one: {0}, other: {1}} if one is not other else {one: {0, 1}}
        ways: tuple[dict[str, None], dict[str, None]] = ({}, {})
        while heap:
            _, _, node = heapq.heappop(heap)
            if not heap and len(sides[node]) > 1:
                break
            for child in _children(node):
                if _LEAF in child.name():
                    joined = len(sides[node]) > 1 and one is not other
                    for side in () if joined else sides[node]:  # behind the join it is on neither way
                        ways[side].update(dict.fromkeys(self._name(child)))
                    continue
                if child not in sides:
                    heapq.heappush(heap, (-child._sequence_nr(), next(order), child))  # noqa: SLF001
                sides.setdefault(child, set()).update(sides[node])
        return list(ways[0]), list(ways[1])

    def end(self, node: Node) -> str:
        """Return the parameter that a branch ends in; ``""`` where it ends in something else."""
        while True:
            kind, children = node.name(), _children(node)
            inputs = [child for child in children if not self._parameter(child)]
            if kind.startswith(_ENDS):
                names = [name for child in children for name in self._parameter(child)]
                end = next((name for name in names if "bias" not in name.rpartition(".")[2]), "")
                if end:
                    return end
            if not kind.startswith((*_THROUGH, "Add")) or len(inputs) != 1:
                return ""
            node = inputs[0]

    def _parameter(self, node: Node) -> list[str]:
        """Name of the parameter that a node stands for, as it is or transposed."""
        while node.name().startswith(("TBackward", "Transpose", "Permute", "View")) and len(_children(node)) == 1:
            node = _children(node)[0]
        return self._name(node) if _LEAF in node.name() else []

    def _name(self, leaf: Node) -> list[str]:
        name = self.names.get(id(leaf.variable))  # type: ignore[attr-defined]
        return [name] if name else []


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]
