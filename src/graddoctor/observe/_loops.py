"""Find loops through time in the autograd graph: a weight that is used again on what came of its last use.

Weights that return are not yet time: a deep network may tie its layers. Time is where something new enters between one
use and the next: another slice of a sequence, another entry of a list, a tensor that was made on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graddoctor.observe._operations import VIEW, WEIGHT
from graddoctor.observe.graph import Edge, Graph, Node

LEAST = 3  # uses that make a loop
_PASSED = {"cat", "stack", "dropout", "mul", "div"}  # on one way back: what a state passes without becoming another
_SCALES = {"mul", "div"}


@dataclass(frozen=True)
class Loop:
    """A loop: the states that it hands on (h_1, …, h_T), and the weights in it, state to state first.

    ``kinds`` are the operations of one step, ``gates`` and ``squashed`` nodes by step: sigmoids and tanhs between one
    state and the next. ``cells``: a second state that goes from step to step beside the first.
    """

    weights: tuple[str, ...]
    states: tuple[Edge, ...]
    kinds: frozenset[str]
    cells: tuple[Edge, ...] = ()
    gates: Mapping[str, tuple[Node, ...]] | None = None
    squashed: tuple[Node, ...] = ()


@dataclass(frozen=True)
class _Chain:
    """One weight's uses, each after the one before, and what entered the second, third, … of them."""

    name: str
    uses: tuple[Node, ...]
    entering: tuple[Edge, ...]
    depth: Mapping[Node, int]


def loops(graph: Graph, parameters: Mapping[str, Tensor], fresh: Mapping[int, Sequence[Tensor]]) -> list[Loop]:
    """Find every loop.

    Parameters
    ----------
    graph
        The graph behind a loss.
    parameters
        Those that may carry a state.
    fresh
        By number of a node, the data that went into its operation.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    carried = _carried(graph, names, fresh)
    uses = _uses(graph, carried, names)
    vectors = {name for name, parameter in parameters.items() if parameter.dim() < 2}  # noqa: PLR2004 - a matrix has two
    chains = [chain for name, at in uses.items() if (chain := _chain(graph, name, _multiplied(at, name in vectors)))]
    by_number = {node.number: node for node in graph.nodes}
    found = []
    for family in _families(chains):
        lead = family[0]
        if _news(graph, lead, carried, fresh):
            found.append(_loop(family, by_number, carried, names))
    return found


# --- uses of weights -------------------------------------------------------------------------------------------------


def _carried(
    graph: Graph, names: Mapping[int, str], fresh: Mapping[int, Sequence[Tensor]]
) -> dict[Node, frozenset[str]]:
    """For nodes that only rearrange or reckon with weights (no samples before them), the names of those weights."""
    carried: dict[Node, frozenset[str]] = {}
    for node in graph.nodes:  # inputs come before their users
        multiplies = node.sort == WEIGHT or node.kind in _SCALES
        if not (multiplies and node.number in fresh) and all(edge.source in carried for edge in node.inputs):
            own = [names[id(leaf)] for leaf in node.leaves if id(leaf) in names]
            carried[node] = frozenset(own).union(*(carried[edge.source] for edge in node.inputs))
    return carried


def _weights_at(node: Node, carried: Mapping[Node, frozenset[str]], names: Mapping[int, str]) -> set[str]:
    found = {names[id(leaf)] for leaf in node.leaves if id(leaf) in names}
    return found.union(*(carried.get(edge.source, frozenset()) for edge in node.inputs))


def _uses(graph: Graph, carried: Mapping[Node, frozenset[str]], names: Mapping[int, str]) -> dict[str, set[Node]]:
    """Operations that multiply a state with a weight, by the weight's name; biases are no such thing."""
    found: dict[str, set[Node]] = {}
    for node in graph.nodes:
        if node not in carried and (node.sort == WEIGHT or node.kind in _SCALES):
            for name in _weights_at(node, carried, names):
                found.setdefault(name, set()).add(node)
    return found


def _multiplied(uses: set[Node], vector: bool) -> set[Node]:  # noqa: FBT001 - one of the two sorts of weights
    """Leave out a bias, which is at hand where a weight multiplies: a vector multiplies entry by entry."""
    return {use for use in uses if use.kind in _SCALES} if vector else uses


def _chain(graph: Graph, name: str, uses: set[Node]) -> _Chain | None:
    """Follow the longest line of uses, each of which the next depends on."""
    if len(uses) < LEAST:
        return None
    depth: dict[Node, int] = {}
    for node in graph.nodes:
        before = max((depth[edge.source] for edge in node.inputs), default=0)
        depth[node] = before + (node in uses)
    use = max(uses, key=lambda one: (depth[one], one.number))
    line, entering = [use], []
    while depth[use] > 1:
        before = depth[use] - 1
        edge = _way(use, depth, before)
        entering.append(edge)
        use = edge.source
        while use not in uses:
            use = _way(use, depth, before).source
        line.append(use)
    if len(line) < LEAST:
        return None
    return _Chain(name, tuple(line[::-1]), tuple(_state(edge, depth) for edge in entering[::-1]), depth)


def _way(node: Node, depth: Mapping[Node, int], wanted: int) -> Edge:
    return next(edge for edge in node.inputs if depth[edge.source] == wanted)


def _state(edge: Edge, depth: Mapping[Node, int]) -> Edge:
    """Go back from the use of a state over what only hands it on: views, masks, what is laid beside it."""
    wanted = depth[edge.source]
    while edge.source.sort == VIEW or edge.source.kind in _PASSED:
        ways = [way for way in edge.source.inputs if depth[way.source] == wanted]
        beside = len(edge.source.inputs) > 1 and edge.source.kind in _SCALES
        if len(ways) != 1 or beside:
            break
        edge = ways[0]
    return edge


def _families(chains: Sequence[_Chain]) -> list[list[_Chain]]:
    """Put weights of one recurrence together: each depends on the other's uses. What most are used on is its state."""
    families: list[list[_Chain]] = []
    for chain in sorted(chains, key=lambda one: one.uses[0].number):
        home = next((family for family in families if _together(family[0], chain)), None)
        if home is None:
            families.append([chain])
        else:
            home.append(chain)
    for family in families:
        popular = Counter(_at(chain) for chain in family)
        family.sort(key=lambda chain: -popular[_at(chain)])
    return families


def _at(chain: _Chain) -> tuple[Node, int]:
    return chain.entering[-1].source, chain.entering[-1].output


def _together(one: _Chain, other: _Chain) -> bool:
    later, earlier = one.depth[other.uses[-1]], other.depth[one.uses[-1]]
    return later >= len(one.uses) - 1 and earlier >= len(other.uses) - 1


# --- whether it is time ----------------------------------------------------------------------------------------------


def _news(
    graph: Graph, chain: _Chain, carried: Mapping[Node, frozenset[str]], fresh: Mapping[int, Sequence[Tensor]]
) -> bool:
    """Whether something else enters between most uses than between the others."""
    bounds = [use.number for use in chain.uses]
    entered: list[set[object]] = [set() for _ in bounds[1:]]
    place = 0
    for node in sorted(graph.nodes, key=lambda one: one.number):
        while place < len(entered) and node.number > bounds[place + 1]:
            place += 1
        if node.number <= bounds[0] or place == len(entered):
            continue
        entered[place].update(_enters(node, chain, carried, bounds[0]))
        if node.kind not in _SCALES:
            entered[place].update(map(_place, _numbers(fresh.get(node.number, ()))))
    return len({frozenset(items) for items in entered if items}) > len(entered) / 2


def _numbers(data: Iterable[Tensor]) -> Iterator[Tensor]:
    """Leave out masks: one that is made anew for every block is no input."""
    return (tensor for tensor in data if tensor.dtype is not torch.bool)


def _place(data: Tensor) -> object:
    """What tells one tensor from another: where its numbers lie, and sparse ones have no such place."""
    return (data.data_ptr(), *data.shape) if data.layout is torch.strided else id(data)


def _enters(node: Node, chain: _Chain, carried: Mapping[Node, frozenset[str]], begin: int) -> Iterator[object]:
    """What a node takes from before the loop, and which slice of it."""
    for edge in node.inputs:
        source = edge.source
        if chain.depth[source] == 0 and source not in carried and source.number < begin:
            slices = (
                getattr(node.raw, name, None) for name in ("_saved_index", "_saved_start", "_saved_storage_offset")
            )
            yield source.number, edge.output, *(place if isinstance(place, int) else None for place in slices)


# --- what is in it ---------------------------------------------------------------------------------------------------


def _loop(
    family: Sequence[_Chain], by_number: Mapping[int, Node], carried: Mapping[Node, frozenset[str]],
    names: Mapping[int, str],
) -> Loop:  # fmt: skip
    lead = family[0]
    inside, crossing = _inside(lead, carried)
    states = list(lead.entering)
    last = _twin(by_number, lead.uses, states[-1].source, -2, -1)
    if last is not None:
        states.append(Edge(last, 0, last, states[-1].output))
    weights = [chain.name for chain in family]
    others = Counter(name for node in inside for name in sorted(_weights_at(node, carried, names)))
    weights += [name for name in others if name not in weights]
    gates = [node for node in inside if node.kind == "sigmoid"]
    tanhs = [node for node in inside if node.kind == "tanh" and node.numel == states[0].source.numel]
    rows = {f"gate {place}": row for place, gate in enumerate(gates, 1) if (row := _row(lead, by_number, gate))}
    return Loop(
        weights=tuple(weights),
        states=tuple(states),
        kinds=frozenset(node.kind for node in inside),
        cells=tuple(_cells(lead, by_number, crossing)),
        gates=rows,
        squashed=_row(lead, by_number, tanhs[-1]) if tanhs else (),
    )


def _middle(chain: _Chain) -> int:
    """A step that is like its neighbours: neither the first nor the last."""
    return (len(chain.uses) - 1) // 2


def _inside(chain: _Chain, carried: Mapping[Node, frozenset[str]]) -> tuple[list[Node], list[Edge]]:
    """The operations of one step, in forward order, and the edges by which earlier steps reach into it."""
    place = _middle(chain)
    begin = chain.uses[place]
    inside, crossing, stack = {begin}, [], [chain.entering[place].source]
    while stack:
        node = stack.pop()
        if node in inside:
            continue
        inside.add(node)
        for edge in node.inputs:
            if edge.source in carried:
                continue
            if edge.source.number > begin.number or (
                chain.depth[edge.source] == 0 and edge.source.number > _before(chain)
            ):
                stack.append(edge.source)
            elif chain.depth[edge.source] > 0 and edge.source is not begin:
                crossing.append(edge)
    return sorted(inside, key=lambda node: node.number), crossing


def _before(chain: _Chain) -> int:
    place = _middle(chain)
    return chain.uses[place - 1].number if place else -1


def _cells(chain: _Chain, by_number: Mapping[int, Node], crossing: Sequence[Edge]) -> Iterator[Edge]:
    """A second state: what else reaches from one step into the next."""
    place = _middle(chain)
    known = {chain.entering[place - 1].source} if place else set()
    second = [edge for edge in crossing if edge.source not in known]
    if len({edge.source for edge in second}) != 1 or not place:
        return
    row = [_twin(by_number, chain.uses, second[0].source, place - 1, at) for at in range(len(chain.uses))]
    yield from (Edge(node, 0, node, second[0].output) for node in row if node is not None)


def _row(chain: _Chain, by_number: Mapping[int, Node], node: Node) -> tuple[Node, ...]:
    """The same operation at every step; empty where the steps differ."""
    row = [_twin(by_number, chain.uses, node, _middle(chain), at) for at in range(len(chain.uses))]
    found = tuple(node for node in row if node is not None)
    return found if len(found) >= len(row) - 1 else ()


def _twin(by_number: Mapping[int, Node], uses: Sequence[Node], node: Node, here: int, there: int) -> Node | None:
    """The operation that stands to another use as ``node`` stands to the use ``here``."""
    twin = by_number.get(node.number - uses[here].number + uses[there].number)
    return twin if twin is not None and twin.kind == node.kind and twin.shapes == node.shapes else None
