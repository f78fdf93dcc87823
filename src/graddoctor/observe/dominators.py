"""Where all gradient must pass: the immediate dominators of the autograd graph, and the regions between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

from graddoctor.observe import _operations as operations
from graddoctor.observe.graph import Edge, Graph, Node, in_forward_order


@dataclass(frozen=True)
class Region:
    """What lies between two neighbouring dominators, ``late`` included, ``early`` not.

    ``early`` is ``None`` where several first operations make the early end, ``late`` where the loss reads the network
    in several places. ``entering`` are the edges by which gradient reaches the early end, ``leaving`` those by which it
    comes in from the late one. ``nodes`` are in forward order, ``late`` not among them.
    """

    early: Node | None
    late: Node | None
    nodes: tuple[Node, ...]
    entering: tuple[Edge, ...]
    leaving: tuple[Edge, ...]
    sources: tuple[Node, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether one edge is all there is."""
        return not self.nodes and self.early is not None and self.late is not None and len(self.entering) == 1


@dataclass(frozen=True)
class Chain:
    """The network between its early and its late end, cut where all gradient passes one tensor; early first."""

    regions: tuple[Region, ...]
    first: Node | None
    last: Node | None


def chain(graph: Graph, end: int | None) -> Chain | None:
    """Cut the part of the graph that samples flow through at its dominators.

    Parameters
    ----------
    graph
        As read from the loss.
    end
        Number of the first node made after the model returned; ``None``: unknown, the loss starts after the last
        weight and the activation that follows it.

    Returns
    -------
    The chain from the first operation that uses a trainable parameter to the model's output, or ``None`` where no
    trainable path leads from the loss.
    """
    inside = _inside(graph, end)
    if not inside:
        return None
    sources = [node for node in inside if not node.flow]
    top = [edge for node in inside for edge in node.users if edge.user not in inside and edge.user.data]
    immediate = _immediate(inside, sources, top, graph)
    path: list[Node] = []
    at = immediate.get("early end")
    while isinstance(at, Node):
        path.append(at)
        at = immediate.get(at)
    return Chain(
        tuple(_regions(path, inside, sources, top, immediate)), path[0] if path else None, path[-1] if path else None
    )


def _inside(graph: Graph, end: int | None) -> dict[Node, None]:
    """Nodes of the network itself, in forward order: on the data path, not of the loss."""
    nodes = [node for node in graph.nodes if node.data and node.trainable]
    called = {name for node in nodes if end is not None and node.number < end for name in node.parameters}
    weighed: set[Node] = set()  # a weight is here or on the way to the loss
    for node in reversed(nodes):
        # after the model has returned only weights of its own that it has not used yet count: a gradient penalty uses
        # them once more, a perceptual loss brings its own
        own = end is None or node.number < end or not called.issuperset(node.parameters)
        if (node.weighs and own) or any(edge.user in weighed for edge in node.users):
            weighed.add(node)
    inside = {node for node in nodes if node in weighed or (end is not None and node.number < end)}
    if end is None or any(node.number >= end for node in weighed):
        for node in nodes:  # inputs come before users
            follows = node.flow and all(edge.source in inside for edge in node.flow)
            if node not in inside and follows and _belongs(node):
                inside.add(node)
    if graph.root in inside and not graph.root.weighs:
        inside.discard(graph.root)
    return dict.fromkeys(in_forward_order(inside))


def _belongs(node: Node) -> bool:
    """Whether an operation after the last weight is still the network's: an activation, a view, but no loss."""
    if node.numel == 1 or operations.is_loss(node.kind) or node.kind in {"log_softmax", "logsigmoid", "exp", "clamp"}:
        return False
    return node.sort in {operations.ACTIVATION, operations.VIEW, operations.NORMALIZATION} or node.kind == "dropout"


def _immediate(
    inside: Iterable[Node], sources: Iterable[Node], top: Iterable[Edge], graph: Graph
) -> dict[Node | str, Node | str]:
    net = nx.DiGraph()
    net.add_edges_from((node, edge.source) for node in inside for edge in node.flow)
    net.add_edges_from(("loss", edge.source) for edge in top)
    net.add_edges_from((source, "early end") for source in sources)
    if graph.root in net:
        net.add_edge("loss", graph.root)
    immediate: dict[Node | str, Node | str] = nx.immediate_dominators(net, "loss")
    return immediate


def backbone(nodes: Collection[Node], late: Node, entering: Collection[Edge]) -> list[Node]:
    """Operations of a path that all its gradient passes, early first; ``entering``: its edges into the early end."""
    net = nx.DiGraph()
    net.add_edges_from((node, edge.source) for node in nodes for edge in node.flow if edge.source in nodes)
    net.add_edges_from(("late", edge.source) for edge in late.flow if edge.source in nodes)
    net.add_edges_from((edge.user, "early") for edge in entering)
    immediate = nx.immediate_dominators(net, "late") if "late" in net and "early" in net else {}
    found: list[Node] = []
    at = immediate.get("early")
    while isinstance(at, Node):
        found.append(at)
        at = immediate.get(at)
    return found


def _regions(
    path: list[Node],
    inside: Iterable[Node],
    sources: list[Node],
    top: list[Edge],
    immediate: dict[Node | str, Node | str],
) -> Iterable[Region]:
    """Sort every node between the two dominators that enclose it."""
    on_path = set(path)
    above: dict[Node, Node | None] = {}

    def late_of(node: Node) -> Node | None:
        steps = []
        at: Node | str | None = node
        while isinstance(at, Node) and at not in on_path and at not in above:
            steps.append(at)
            at = immediate.get(at)
        found = at if isinstance(at, Node) and at in on_path else above.get(at) if isinstance(at, Node) else None
        for step in steps:
            above[step] = found
        return found

    members: dict[Node | None, list[Node]] = {}
    for node in inside:
        if node not in on_path and node in immediate:
            members.setdefault(late_of(node), []).append(node)
    ends: list[Node | None] = [*path]
    if not path or path[0] not in sources:
        ends.insert(0, None)
    if not path or members.get(None) or any(edge.source is not path[-1] for edge in top):
        ends.append(None)
    for early, late in pairwise(ends):
        nodes = members.get(late, [])
        scope = {*nodes, late}
        entering = tuple(edge for edge in early.users if edge.user in scope or late is None) if early else ()
        leaving = (
            tuple(edge for edge in top if edge.source in scope or edge.source is early)
            if late is None
            else tuple(late.flow)
        )
        yield Region(
            early,
            late,
            tuple(nodes),
            entering,
            leaving,
            tuple(s for s in sources if s in scope) if early is None else (),
        )
