"""Residual branches: where each ends, what lies within it, and a start at which all of them add nothing."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.autograd.graph import Node

from graddoctor.recipe import Recipe
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import ADDITIONS, name_of, tensors_in
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.starts import Plan, grouped, started
from graddoctor.remedies.survey import Reader, read_forward
from graddoctor.train import build_model

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


def branches(recipe: Recipe, model: nn.Module, batch: Any) -> list[Branch]:
    """Find the residual branches of a network by its autograd graph.

    Where two tensors of one shape are added, their ways back are followed until they join. The one that passes by more
    weights is the branch, if the other passes by none (an identity) or one (a projection), and they share none. What
    ends in a nonlinearity, or in something frozen, is left out.
    """
    reader = _Additions(model)
    read_forward(recipe, model, reader, batch)
    sizes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    found = {}
    for one, other in reader.pairs:
        ways = [[name for name in way if sizes[name] > 1] for way in reader.ways(one, other)]
        (short, _), (long, node) = sorted(zip(ways, (one, other), strict=True), key=lambda pair: len(pair[0]))
        if len(short) < min(len(long), 2) and not set(short) & set(long):
            end = reader.end(node)
            if end:
                found[end] = Branch(end, tuple(name for name in long if name != end))
    return list(found.values())


class _Additions(Reader):
    """Remembers the graph nodes of the tensors that are added to each other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.pairs: list[tuple[Node, Node]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if name_of(func) in ADDITIONS:
            tensors = [t for t in tensors_in([args, kwargs or {}]) if t.grad_fn is not None]
            if len(tensors) == 2 and tensors[0].shape == tensors[1].shape:  # noqa: PLR2004 - one and the other
                self.pairs.append((tensors[0].grad_fn, tensors[1].grad_fn))  # type: ignore[arg-type]
        return super().__torch_function__(func, types, args, kwargs)

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
                    for side in sides[node]:
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


def zero_branches(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Let every residual branch begin at zero: its last weight, or the gain of the normalization that ends it.

    Without normalizations the other weights of a branch are scaled by L^(-1/(2m-2)), for L branches of m weights, so
    that a step changes the output as much as it would in a single branch (Fixup).

    Source: Zhang et al. 2019; De and Smith 2020; for gains of normalizations Goyal et al. 2017.
    """
    net = build_model(facts.recipe)
    found = branches(facts.recipe, net, facts.batch)
    parameters = dict(net.named_parameters())
    plan: Plan = {}
    for branch in found:
        path, _, _ = branch.end.rpartition(".")
        for name in (branch.end, f"{path}.bias"):
            if name in parameters and bool(parameters[name].any()):
                plan[name] = ("constant", 0.0)
    if plan and facts.survey is not None and not facts.survey.normalizations:
        plan |= _scaled(found)
    if only is not None:
        plan = {name: entry for name, entry in plan.items() if any(f"{name}.".startswith(f"{m}.") for m in only)}
    return started("zero-initialised branches", grouped(plan), "Zhang et al. 2019; De and Smith 2020", only)


def _scaled(found: list[Branch]) -> Plan:
    shared = Counter(name for branch in found for name in branch.inner)
    return {
        name: ("scaled", len(found) ** (-1 / (2 * len(branch.inner))))
        for branch in found
        for name in branch.inner
        if shared[name] == 1
    }
