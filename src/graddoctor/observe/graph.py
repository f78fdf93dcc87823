"""The autograd graph as plain data: nodes in forward order, edges that carry gradient, where the samples flow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from graddoctor.observe import _operations as operations

LEAF = "AccumulateGrad"


@dataclass(eq=False, slots=True)
class Edge:
    """What one use of a tensor adds to its gradient: input ``place`` of ``user`` reads ``output`` of ``source``."""

    user: Node
    place: int
    source: Node
    output: int


@dataclass(eq=False, slots=True)
class Node:
    """One operation. ``inputs`` are the edges its gradient leaves by, ``users`` those that bring it.

    ``trainable``: a trainable parameter lies before it. ``data``: so do the samples of the batch.
    """

    raw: Any
    kind: str
    number: int
    shapes: tuple[tuple[int, ...], ...]
    module: str = ""
    inputs: list[Edge] = field(default_factory=list)
    users: list[Edge] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)
    trainable: bool = False
    data: bool = False
    parameters: tuple[str, ...] = ()

    @property
    def sort(self) -> str:
        """``"weight"``, ``"activation"``, ``"normalization"``, ``"pool"``, ``"view"`` or ``"other"``."""
        return operations.sort_of(self.kind)

    @property
    def numel(self) -> int:
        """Number of elements of all outputs."""
        total = 0
        for shape in self.shapes:
            size = 1
            for length in shape:
                size *= length
            total += size
        return total

    @property
    def flow(self) -> list[Edge]:
        """Edges to inputs that carry samples and lead to a trainable parameter."""
        return [edge for edge in self.inputs if edge.source.data and edge.source.trainable]

    @property
    def weighs(self) -> bool:
        """Whether it multiplies samples with a weight (two streams of samples, as in attention, are none)."""
        return self.sort == operations.WEIGHT and len(self.flow) <= 1


@dataclass(frozen=True)
class Graph:
    """All nodes behind a loss, inputs before users (``nodes``), and the loss itself (``root``)."""

    root: Node
    nodes: tuple[Node, ...]

    @property
    def hidden(self) -> int:
        """How many operations keep their own graph to themselves until backward (re-entrant checkpoints)."""
        return sum(node.kind == "checkpoint" for node in self.nodes)

    def leaves(self) -> list[Tensor]:
        """Every leaf tensor that gradient can reach."""
        found = {id(leaf): leaf for node in self.nodes for leaf in node.leaves}
        return list(found.values())


def walk(
    loss: Tensor, module_at: Callable[[int, str], str], data: Collection[int], names: Mapping[int, str]
) -> Graph | None:
    """Read the graph behind ``loss``; ``None`` when it has none.

    Parameters
    ----------
    loss
        The tensor to start from.
    module_at
        The module in which the node of this number and kind was made.
    data
        Numbers of the nodes into whose operations samples flowed.
    names
        By ``id``: the name of every trainable parameter.
    """
    if loss.grad_fn is None:
        return None
    nodes: dict[Any, Node] = {}
    order: list[Node] = []
    stack: list[tuple[Any, bool]] = [(loss.grad_fn, False)]
    while stack:
        raw, done = stack.pop()
        if done:
            order.append(nodes[raw])
        elif raw not in nodes:
            nodes[raw] = _node(raw, module_at)
            stack.append((raw, True))
            stack.extend(
                (before, False) for before, _ in raw.next_functions if before is not None and not _is_leaf(before)
            )
    for node in order:
        _connect(node, nodes, data, names)
    return Graph(nodes[loss.grad_fn], tuple(order))


def _is_leaf(raw: Any) -> bool:
    return LEAF in raw.name() and hasattr(raw, "variable")


def _node(raw: Any, module_at: Callable[[int, str], str]) -> Node:
    number = raw._sequence_nr()  # noqa: SLF001 - torch's profiler and FX read it too; there is no other clock
    shapes = tuple(tuple(entry.shape) for entry in raw._input_metadata)  # noqa: SLF001 - as above
    kind = operations.kind_of(raw.name())
    return Node(raw, kind, number, shapes, module_at(number, kind))


def _connect(node: Node, nodes: Mapping[Any, Node], data: Collection[int], names: Mapping[int, str]) -> None:
    found: list[str] = []
    node.data = node.number in data
    node.trainable = node.kind == "checkpoint"  # its parameters are hidden; it would not be there without them
    for place, (before, output) in enumerate(node.raw.next_functions):
        if before is None:
            continue
        if _is_leaf(before):
            node.leaves.append(before.variable)
            name = names.get(id(before.variable))
            if name is not None:
                node.trainable = True
                found.append(name)
            continue
        source = nodes[before]
        edge = Edge(node, place, source, output)
        node.inputs.append(edge)
        source.users.append(edge)
        node.data |= source.data
        node.trainable |= source.trainable
        if not source.data:
            found.extend(source.parameters)
    node.parameters = tuple(dict.fromkeys(found))


def in_forward_order(nodes: Iterable[Node]) -> list[Node]:
    """Sort as the forward pass ran."""
    return sorted(nodes, key=lambda node: node.number)


def first_weight(graph: Graph) -> set[int]:
    """Number of the first operation that multiplies with a trainable weight: where samples enter if nothing tells."""
    found = (n.number for n in in_forward_order(graph.nodes) if n.sort == operations.WEIGHT and n.trainable)
    return {next(found, -1)}
