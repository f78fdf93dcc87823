"""Group what lies between the dominators into rows that a reader knows: layers, residual branches, joint stretches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import networkx as nx

from graddoctor.observe import _operations as operations
from graddoctor.observe.dominators import Chain, Region
from graddoctor.observe.graph import Edge, Node, in_forward_order

_DEEP_RESIDUAL = 6  # weights in a row that one residual branch may hold (an inverted bottleneck with gate has five)
_DEEP_JOINT = 3  # the same for parallel paths without a skip
_DEEP_CONCATENATION = 2  # the same for one path beside a skip that is concatenated, as in DenseNet and U-Net
_ADDING = {"add", "sub", "lerp", "addcmul", "rsub"}
_MERGING = {*_ADDING, "mul", "cat", "where"}


@dataclass(frozen=True)
class Cut:
    """All tensors that gradient passes at one depth: whole tensors, by the nodes that made them, and edges."""

    whole: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Those whose outputs are cut."""
        return tuple(dict.fromkeys((*self.whole, *(edge.source for edge in self.edges))))


@dataclass(frozen=True)
class Path:
    """One of the ways through a region: the edges by which it enters the early end, and its operations."""

    kind: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass
class Group:
    """A row in the making: what lies between two cuts."""

    kind: str
    early: Cut
    late: Cut
    steps: list[tuple[Node, Node]] = field(default_factory=list)  # (operation, node before it) of its plain stretch
    stages: list[tuple[Cut, Cut, tuple[Node, ...]]] = field(default_factory=list)  # (late, early, operations between)
    core: Region | None = None
    paths: tuple[Path, ...] = ()
    nodes: list[Node] = field(default_factory=list)
    origin: Node | None = None  # the first operation of all, whose own work comes before the early end


def groups(chain: Chain) -> list[Group]:
    """Rows of a chain, early to late, without their numbers."""
    found: list[Group] = []
    for region in chain.regions:
        if not region.plain or region.early is None or region.late is None:
            found.extend(_opened(region) if _deep(region) else [_joined(region)])
            continue
        early, late = region.early, region.late
        if not found or not _continues(found[-1], late):
            first = not found and not early.flow and not late.weighs
            found.append(
                Group("layer" if first else "other", Cut((early,)), Cut((late,)), origin=early if first else None)
            )
        group = found[-1]
        group.late = Cut((late,))
        group.steps.append((late, early))
        group.nodes.append(late)
        if late.weighs:
            group.kind = "layer"
    return found


def _continues(group: Group, node: Node) -> bool:
    """Whether an operation belongs to the row before it."""
    if node.weighs:
        return group.kind == "other"
    if group.core is None:
        return True
    return within(node.module, common([n.module for n in group.nodes]))


def _deep(region: Region) -> bool:
    """Whether a region is too long for one row: its paths hold many weights one after the other."""
    top = max(_levels(region).values(), default=0)
    if top > len(_parameters(region)):  # the same weights again and again: a loop over time, and no depth
        return False
    if region.early is None or region.late is None:
        return top > 1
    paths = _paths(region)
    if _residual(region, paths):
        return top > _DEEP_RESIDUAL
    heavy = sum(any(node.weighs for node in path.nodes) for path in paths)
    return top > (_DEEP_JOINT if heavy > 1 else _DEEP_CONCATENATION)


def _parameters(region: Region) -> set[str]:
    """Names of all that a region multiplies with, biases too."""
    nodes = (*region.nodes, *([region.late] if region.late else []))
    return {name for node in nodes if node.weighs for name in node.parameters}


def _residual(region: Region, paths: Iterable[Path]) -> bool:
    return region.late is not None and region.late.kind in _ADDING and any(path.kind == "skip" for path in paths)


def _levels(region: Region) -> dict[Node, int]:
    """Weights on the longest way from the early end to each node, its own included."""
    inside = {*region.nodes, region.late}
    levels: dict[Node, int] = {}
    for node in _sorted(region):
        before = [levels[edge.source] for edge in node.flow if edge.source in inside and edge.source in levels]
        levels[node] = max(before, default=0) + node.weighs
    return levels


def _sorted(region: Region) -> list[Node]:
    """The nodes of a region, late end included, inputs before users."""
    nodes = {*region.nodes, *([region.late] if region.late else [])}
    net = nx.DiGraph()
    net.add_nodes_from(in_forward_order(nodes))
    net.add_edges_from((edge.source, node) for node in nodes for edge in node.flow if edge.source in nodes)
    return list(nx.topological_sort(net))


def _joined(region: Region) -> Group:
    paths = _paths(region)
    kind = "residual" if _residual(region, paths) else "joint"
    nodes = [*region.nodes, *([region.late] if region.late else [])]
    return Group(kind, _start(region), _end(region), core=region, paths=paths, nodes=nodes)


def _paths(region: Region) -> tuple[Path, ...]:
    """Ways from the late end to the early one that share no operation; the lightest is the skip."""
    if region.early is None or region.late is None:
        return ()
    net = nx.Graph()
    net.add_nodes_from(region.nodes)
    inside = set(region.nodes)
    net.add_edges_from((n, e.source) for n in region.nodes for e in n.flow if e.source in inside)
    found = []
    for component in nx.connected_components(net):
        edges = tuple(edge for edge in region.entering if edge.user in component)
        found.append(([node for node in region.nodes if node in component], edges))
    direct = tuple(edge for edge in region.entering if edge.user is region.late)
    if direct:
        found.append(([], direct))
    weights = [sum(node.weighs for node in nodes) for nodes, _ in found]
    lightest = min(weights, default=0)
    skips = [i for i, weight in enumerate(weights) if weight == lightest]
    lone = len(skips) == 1 and len(found) > 1 and lightest <= 1 and region.late.kind in _MERGING
    paths = []
    for i, (nodes, edges) in enumerate(found):
        kind = ("skip" if i == skips[0] else "branch") if lone else "path"
        paths.append(Path(kind, tuple(nodes), edges))
    return tuple(sorted(paths, key=lambda path: path.kind != "skip"))


def _opened(region: Region) -> Iterator[Group]:
    """Cut a region without single cuts by depth: one row for each weight on the longest way.

    A row is cut further at each of its operations, counted along the longest way since its weight.
    """
    depths = _depths(_levels(region))
    stages = sorted(set(depths.values()))
    cuts = [_start(region), *_crossing(region, depths, stages), _end(region)]
    at: dict[tuple[int, int], list[Node]] = {}
    for node, depth in depths.items():
        at.setdefault(depth, []).append(node)
    group: Group | None = None
    for i, stage in enumerate(stages):
        fresh = group is None or stage[0] > max(1, stages[i - 1][0])
        if group is None or fresh:
            if group is not None:
                yield group
            group = Group("joint", cuts[i], cuts[i + 1])
        group.late = cuts[i + 1]
        group.stages.append((cuts[i + 1], cuts[i], tuple(in_forward_order(at[stage]))))
        group.nodes.extend(in_forward_order(at[stage]))
    if group is not None:
        yield group


def _depths(levels: dict[Node, int]) -> dict[Node, tuple[int, int]]:
    """Weights, and then operations since the last weight, on the longest way from the early end to each node."""
    depths: dict[Node, tuple[int, int]] = {}
    for node, level in levels.items():
        since = [depths[edge.source][1] + 1 for edge in node.flow if levels.get(edge.source) == level]
        depths[node] = (level, max(since, default=0))
    return depths


def _start(region: Region) -> Cut:
    return Cut((region.early,) if region.early else region.sources)


def _end(region: Region) -> Cut:
    return Cut((region.late,)) if region.late else Cut((), region.leaving)


def _crossing(region: Region, depths: dict[Node, tuple[int, int]], stages: Sequence[tuple[int, int]]) -> list[Cut]:
    """Between each two neighbouring depths, the edges that lead from above to below.

    The early end is deepest, the loss on top of all; first operations hand their gradient to the early end.
    """
    place = {stage: i for i, stage in enumerate(stages)}
    edges: list[list[Edge]] = [[] for _ in stages[1:]]
    whole: list[list[Node]] = [[] for _ in stages[1:]]
    inner = [edge for node in depths for edge in node.flow]
    for edge in (*inner, *(edge for edge in region.leaving if edge.user not in depths)):
        low = place[depths[edge.source]] if edge.source in depths else 0
        high = place[depths[edge.user]] if edge.user in depths else len(edges)
        for i in range(low, high):
            edges[i].append(edge)
    for source in region.sources:
        for i in range(place[depths[source]]):
            whole[i].append(source)
    return [Cut(tuple(nodes), tuple(crossing)) for nodes, crossing in zip(whole, edges, strict=True)]


def common(modules: Iterable[str]) -> str:
    """The innermost module that encloses all of these."""
    paths = [module.split(".") if module else [] for module in modules]
    if not paths:
        return ""
    shared = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)


def within(module: str, outer: str) -> bool:
    """Whether a module is another one, or lies in it."""
    return not outer or module == outer or module.startswith(outer + ".")


def titles(groups: Sequence[Group], owner: Callable[[Node], str]) -> list[str]:
    """Name all rows, each once: what encloses another row's module gets its weights added, repeated uses a number."""
    names = [_title(group, owner) for group in groups]
    for i, group in enumerate(groups):
        if any(other.startswith(names[i] + ".") for other in names):
            ends = list(dict.fromkeys(_inner(owner(node), names[i]) for node in group.nodes if node.weighs))
            names[i] += "." + "…".join(dict.fromkeys((ends[0], ends[-1]))) if ends and all(ends) else ""
    counts: dict[str, int] = {}
    for i, name in enumerate(names):
        counts[name] = counts.get(name, 0) + 1
        names[i] = name if counts[name] == 1 else f"{name} ({counts[name]})"
    return names


def _inner(module: str, outer: str) -> str:
    """First step from an enclosing module to one in it."""
    return module[len(outer) + 1 :].split(".", 1)[0] if module.startswith(outer + ".") else ""


def _title(group: Group, owner: Callable[[Node], str]) -> str:
    """Name a row by the modules of its weights (a residual row: of its branches)."""
    nodes: Sequence[Node] = group.nodes
    branches = [node for path in group.paths if path.kind != "skip" for node in path.nodes]
    weights = [node for node in branches or nodes if node.weighs]
    if group.origin is not None:
        return owner(group.origin)
    if not weights:
        return common([node.module for node in nodes]) or nodes[-1].kind
    names = list(dict.fromkeys(owner(node) for node in weights))
    if len(names) == 1:
        return names[0]
    if group.core is None:
        return " + ".join(names) if len(names) <= 3 else f"{names[0]} + {len(names) - 1} more"  # noqa: PLR2004 - fits
    return common(names) or common([node.module for node in nodes]) or f"{names[0]} … {names[-1]}"


def label(nodes: Sequence[Node], owner: Callable[[Node], str]) -> str:
    """Name a path by the modules of its weights, or of all its operations where it has none."""
    weights = [owner(node) for node in nodes if node.weighs]
    return common(weights) or common([node.module for node in nodes]) or " + ".join(dict.fromkeys(weights))


def together(nodes: Iterable[Node]) -> str:
    """Kind of the part that several operations at one depth make."""
    kinds = {sort_of(node) for node in nodes} - {operations.OTHER}
    return kinds.pop() if len(kinds) == 1 else operations.OTHER


def sort_of(node: Node) -> str:
    """Kind of the part that an operation makes: as its sort, views counted with the rest."""
    if node.sort == operations.VIEW or (node.sort == operations.WEIGHT and not node.weighs):
        return operations.OTHER
    return node.sort
