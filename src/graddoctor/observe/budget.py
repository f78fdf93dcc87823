"""The gradient budget: where the gradient is lost or gained on its way from the loss to the first layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from graddoctor.observe import _rows
from graddoctor.observe._flow import Flow
from graddoctor.observe._rows import Cut, Group, Path
from graddoctor.observe.dominators import backbone
from graddoctor.observe.graph import Edge, Node
from graddoctor.observe.ledger import Reading, Signal, signal
from graddoctor.observe.losses import LossShare

_NOTHING = 1e-12  # decades: views and casts that change no norm
_TOLERANCE = 1e-2  # half types round the sum of the paths that the shares are taken of


@dataclass(frozen=True)
class Part:
    """One operation, or one path, of a row.

    Attributes
    ----------
    name, kind, modules
        What it is. Kinds: ``"activation"``, ``"weight"``, ``"normalization"``, ``"pool"``, ``"branch"``, ``"skip"``,
        ``"path"`` (one of several in a joint row) and ``"other"``.
    decades
        The parts of a plain row add up to the row. For a path it is its gradient against the one that arrives at the
        row; paths interfere, so theirs do not add up.
    share
        For a path: its share of the gradient at the early end of the row, by projection; the paths' shares sum to 1
        and one may be negative. ``nan`` for other parts.
    inside
        The operations along a branch, a budget of its own, never added to the row.
    """

    name: str
    kind: str
    modules: tuple[str, ...]
    decades: float
    share: float = float("nan")
    inside: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Row:
    """What happens to the gradient between two cuts of the graph.

    ``kind`` is ``"layer"`` (one weight and what follows it), ``"residual"`` (a branch beside a skip), ``"joint"``
    (several paths) or ``"other"``. ``decades`` is log10 of the norm at the early cut over that at the late one.
    ``size_decades`` is half the log10 of their numbers of elements: shown apart, never a cause. ``start_norm`` belongs
    to the early cut, ``end_norm`` to the late one. Where either is zero or not finite, ``decades`` is 0.
    """

    name: str
    kind: str
    modules: tuple[str, ...]
    decades: float
    size_decades: float
    start_norm: float
    end_norm: float
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Budget:
    """Where the gradient was lost or gained: rows in forward order, whose decades add up to the total.

    ``total`` is log10 of the gradient's norm at the early end over that at the late end (< 0: it vanished). ``cut``
    names the row in which it becomes exactly zero or not finite; ``total`` then covers the rows after it. ``losses``
    says which part of the gradient at the early end each term of the loss brings; empty where the loss is no sum.
    """

    rows: tuple[Row, ...]
    total: float
    cut: str | None
    signal: Signal = field(default_factory=Signal)
    losses: tuple[LossShare, ...] = ()

    def by_kind(self) -> dict[str, float]:
        """Decades by kind of part; what a residual or joint row adds beside its plain parts is booked on its kind."""
        totals: dict[str, float] = {}
        for row in self.rows:
            rest = row.decades
            for part in row.parts:
                if part.kind in {"skip", "branch", "path"}:
                    continue
                totals[part.kind] = totals.get(part.kind, 0.0) + part.decades
                rest -= part.decades
            if row.kind in {"residual", "joint"} and abs(rest) > _NOTHING:
                totals[row.kind] = totals.get(row.kind, 0.0) + rest
        return totals

    def by_module(self) -> dict[str, float]:
        """Decades by row name."""
        totals: dict[str, float] = {}
        for row in self.rows:
            totals[row.name] = totals.get(row.name, 0.0) + row.decades
        return totals


def projected(groups: Sequence[Group]) -> set[Edge]:
    """Edges whose part in the gradient of a row's early end must be read in backward, for the shares of its paths."""
    return {edge for group in groups for path in group.paths for edge in path.edges}


def settle(
    groups: Sequence[Group], flow: Flow, owner: Callable[[Node], str], read: Callable[[Node], Reading | None]
) -> Budget:
    """Put numbers to rows.

    Parameters
    ----------
    groups
        The rows, early to late.
    flow
        Norms of the gradients.
    owner
        The module that a weighing operation's parameter belongs to.
    read
        Spread between samples and root mean square of what a node made.
    """
    if not groups:
        return Budget((), 0.0, None, Signal(reason="the network is one layer"))
    titles = _rows.titles(groups, owner)
    norms = [_norm(group.early, flow) for group in groups] + [_norm(group.late, flow) for group in groups[-1:]]
    broken = max((i for i, norm in enumerate(norms) if not _sound(norm)), default=-1)
    rows = []
    for i, (group, name) in enumerate(zip(groups, titles, strict=True)):
        row = _row(group, name, norms[i], norms[i + 1], owner)
        if i > broken:
            decades = math.log10(row.start_norm) - math.log10(row.end_norm)
            row = replace(row, decades=decades, parts=_parts(group, decades, flow, owner))
        rows.append(row)
    total = math.fsum(row.decades for row in rows)
    cut = titles[min(broken, len(titles) - 1)] if broken >= 0 else None
    cuts = [group.early.nodes for group in groups] + [group.late.nodes for group in groups[-1:]]
    return Budget(tuple(rows), total, cut, signal(titles, cuts, read))


def _row(group: Group, name: str, start: float, end: float, owner: Callable[[Node], str]) -> Row:
    """Describe a row, as yet without decades."""
    weights = [owner(node) for node in group.nodes if node.weighs]
    others = [node.module for node in group.nodes if not node.weighs and node.sort != "view" and node.module]
    first = [owner(group.origin)] if group.origin is not None else []
    modules = tuple(dict.fromkeys(module for module in (*first, *weights, *others) if module))
    sizes = (_numel(group.early), _numel(group.late))
    size = 0.5 * math.log10(sizes[0] / sizes[1]) if all(sizes) else 0.0
    return Row(name, group.kind, modules, 0.0, size, start, end)


def _parts(group: Group, decades: float, flow: Flow, owner: Callable[[Node], str]) -> tuple[Part, ...]:
    parts = list(_path_parts(group, flow, owner))
    rest = decades
    for late, early, nodes in group.stages:
        gain = _gain(_norm(early, flow), _norm(late, flow))
        rest -= gain
        kind = _rows.together(nodes)
        own = kind != "other" and any(node.flow for node in nodes)
        if own or abs(gain) > _NOTHING:
            seen = [node for node in nodes if kind == "other" or _rows.sort_of(node) == kind]
            modules = tuple(dict.fromkeys(owner(node) if node.weighs else node.module or node.kind for node in seen))
            parts.append(Part(" + ".join(modules), kind, modules, gain))
    for node, before in group.steps:
        gain = _gain(flow.at(before), flow.at(node))
        kind = _rows.sort_of(node)
        if kind == "other" and abs(gain) < _NOTHING:
            continue
        rest -= gain
        module = owner(node) if node.weighs else node.module
        parts.append(Part(module or node.kind, kind, (module,) if module else (), gain))
    if group.core is None and (abs(rest) > _NOTHING or not parts):
        parts.append(Part("other", "other", (), rest))
    return tuple(parts)


def _path_parts(group: Group, flow: Flow, owner: Callable[[Node], str]) -> list[Part]:
    core = group.core
    if core is None or core.early is None or core.late is None or not group.paths:
        return []
    whole = flow.at(core.early) ** 2
    dots = [sum(flow.part(edge) for edge in path.edges) for path in group.paths]
    if not math.isclose(sum(dots), whole, rel_tol=_TOLERANCE):
        dots = [math.nan for _ in dots]
    parts = []
    for path, dot in zip(group.paths, dots, strict=True):
        names = [owner(node) if node.weighs else node.module for node in path.nodes if node.sort != "view"]
        modules = tuple(dict.fromkeys(name for name in names if name))
        gain = _gain(flow.over(path.edges), flow.at(core.late))
        name = "skip" if path.kind == "skip" else _rows.label(path.nodes, owner) or path.kind
        inside = _interior(path, core.late, flow, owner)
        parts.append(Part(name, path.kind, modules, gain, dot / sum(dots), inside))
    return parts


def _interior(path: Path, late: Node, flow: Flow, owner: Callable[[Node], str]) -> tuple[Part, ...]:
    """What the operations along a path do, from its last one to the early end, early first."""
    nodes = set(path.nodes)
    parts = []
    below, before = flow.over(path.edges), None
    for node in backbone(nodes, late, path.edges):
        gain = _gain(below, flow.at(node))
        alone = all(edge.source is before or edge.source not in nodes for edge in node.flow)
        kind = _rows.sort_of(node) if alone else "other"
        module = owner(node) if node.weighs else node.module
        if kind != "other" or not abs(gain) < _NOTHING:
            parts.append(Part(module or node.kind, kind, (module,) if module else (), gain))
        below, before = flow.at(node), node
    return tuple(parts)


def _gain(leaving: float, arriving: float) -> float:
    if not (_sound(leaving) and _sound(arriving)):
        return math.nan
    return math.log10(leaving) - math.log10(arriving)


def _sound(norm: float) -> bool:
    return math.isfinite(norm) and norm > 0


def _norm(cut: Cut, flow: Flow) -> float:
    return math.hypot(*(flow.at(node) for node in cut.whole), flow.over(cut.edges))


def _numel(cut: Cut) -> int:
    return sum(node.numel for node in cut.nodes)
