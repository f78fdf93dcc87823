"""Run backward and read, in hooks on the graph, how much gradient arrives at every operation and by which edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe import _samples as samples_of
from graddoctor.observe.graph import Edge, Graph, Node

_PIECE = 65536
_REARRANGED = {"view", "t", "transpose", "permute", "unsqueeze", "squeeze", "alias"}  # every entry once, elsewhere


class Flow:
    """Norms of gradients: what arrives at a node (over all its outputs), what an edge carries.

    Edges to a tensor with one use carry what arrives there; only where several uses meet are they read one by one.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._arriving: dict[Node, list[Tensor]] = {}
        self._edges: dict[Edge, Tensor] = {}
        self._kept: dict[Edge, Tensor] = {}
        self._dots: dict[Edge, Tensor] = {}
        self._numbers: dict[Any, float] = {}

    def run(self, backward: Callable[[], None], project: Collection[Edge]) -> None:
        """Call ``backward`` with hooks in place. For the edges in ``project`` their part in the sum is read too."""
        handles = []
        wanted = set(project)
        try:
            for node in self._graph.nodes:
                several = [edge for edge in node.inputs if len(edge.source.users) > 1]
                awaited = [edge for edge in node.users if edge in wanted]
                if several or awaited or not _rearranges(node):
                    handles.append(node.raw.register_hook(self._hook(node, several, wanted, awaited)))
            backward()
        finally:
            for handle in handles:
                handle.remove()
            self._kept.clear()
        self._read()

    def _hook(
        self, node: Node, several: Sequence[Edge], wanted: Collection[Edge], awaited: Sequence[Edge]
    ) -> Callable[[Sequence[Tensor | None], Sequence[Tensor | None]], None]:
        def hook(leaving: Sequence[Tensor | None], arriving: Sequence[Tensor | None]) -> None:
            if not _rearranges(node):
                self._arriving[node] = [_norm(g) for g in arriving if g is not None]
            for edge in several:
                gradient = leaving[edge.place]
                if gradient is not None:
                    self._edges[edge] = _norm(gradient)
                    if edge in wanted:
                        self._kept[edge] = gradient
            for edge in awaited:
                part, whole = self._kept.pop(edge, None), arriving[edge.output]
                if part is not None and whole is not None:
                    self._dots[edge] = dot(part, whole)

        return hook

    def _read(self) -> None:
        """Bring all numbers to the host at once."""
        found: list[tuple[tuple[str, Any], Tensor]] = []
        found += ((("at", node), tensor) for node, tensors in self._arriving.items() for tensor in tensors)
        found += ((("edge", edge), tensor) for edge, tensor in self._edges.items())
        found += ((("dot", edge), tensor) for edge, tensor in self._dots.items())
        values = [tensor for _, tensor in found]
        numbers = torch.stack([value.to(values[0].device) for value in values]).tolist() if values else []
        for (key, _), number in zip(found, numbers, strict=True):
            before = self._numbers.get(key)
            self._numbers[key] = number if before is None else math.hypot(before, number)

    def at(self, node: Node) -> float:
        """Norm of the gradient that arrives at a node's outputs (``nan``: none was seen)."""
        if _rearranges(node):
            return self.by(node.inputs[0])
        return self._numbers.get(("at", node), math.nan)

    def by(self, edge: Edge) -> float:
        """Norm of what an edge brings."""
        if len(edge.source.users) == 1:
            return self.at(edge.source)
        return self._numbers.get(("edge", edge), math.nan)

    def part(self, edge: Edge) -> float:
        """Inner product of what an edge brings with the whole gradient it becomes part of (``nan``: not read)."""
        if len(edge.source.users) == 1:
            return self.at(edge.source) ** 2
        return self._numbers.get(("dot", edge), math.nan)

    def over(self, edges: Iterable[Edge]) -> float:
        """Norm over a set of edges."""
        return math.hypot(*(self.by(edge) for edge in edges))


def _rearranges(node: Node) -> bool:
    """Whether a node hands its gradient on entry by entry: one norm does for both sides."""
    return node.kind in _REARRANGED and len(node.inputs) == 1 and node.numel == node.inputs[0].source.numel


def _strided(gradient: Tensor) -> Tensor:
    if gradient.layout is not torch.strided:
        gradient = gradient.coalesce().values() if gradient.is_sparse else gradient.to_dense()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient


def _norm(gradient: Tensor) -> Tensor:
    return samples_of.norm(_strided(gradient).detach())


def dot(part: Tensor, whole: Tensor) -> Tensor:
    """Inner product in float64, in pieces that stay in the cache: squares of small gradients underflow float32."""
    pieces = zip(*(torch.split(_strided(g).detach().reshape(-1), _PIECE) for g in (part, whole)), strict=True)
    return torch.stack([torch.dot(a.double(), b.double()) for a, b in pieces]).sum()


@contextmanager
def _silent(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep hooks that run after a gradient has been accumulated from being called: they may step an optimizer."""
    attribute = "_post_accumulate_grad_hooks"
    tables = [hooks for hooks in (getattr(parameter, attribute, None) for parameter in parameters) if hooks]
    kept = [dict(hooks) for hooks in tables]
    for hooks in tables:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, entries in zip(tables, kept, strict=True):
            hooks.update(entries)


def backward(
    loss: Tensor, graph: Graph, flow: Flow, model: nn.Module, project: Collection[Edge], *, retain: bool = False
) -> dict[int, Tensor | None]:
    """Run backward under ``flow`` and hand back the gradients of the trainable parameters by ``id``.

    ``.grad`` is not written, and hooks that run after it is are not called, unless a re-entrant checkpoint makes that
    the only way; the caller puts ``.grad`` back. ``retain`` keeps the graph for another
    pass, if none of it is hidden.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    found: dict[int, Tensor | None] = {}
    if graph.hidden:
        others = [leaf for leaf in graph.leaves() if leaf.requires_grad]
        before = [(leaf, leaf.grad) for leaf in others]
        for leaf in (*parameters, *others):
            leaf.grad = None
        with _silent(parameters):
            flow.run(loss.backward, project)
        found = {id(p): p.grad for p in parameters}
        for leaf, gradient in before:
            leaf.grad = gradient
        return found
    reached = {id(leaf) for leaf in graph.leaves()}
    inputs = [p for p in parameters if id(p) in reached]

    def run() -> None:
        gradients = torch.autograd.grad(loss, inputs, retain_graph=retain, allow_unused=True)
        for parameter, gradient in zip(inputs, gradients, strict=True):
            found[id(parameter)] = gradient

    flow.run(run, project)
    return found
