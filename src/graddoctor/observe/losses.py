"""A loss that is a sum: its terms, and the share that each has in the gradient at the early end of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from graddoctor.observe import _operations as operations
from graddoctor.observe._flow import Flow, dot
from graddoctor.observe._rows import Cut
from graddoctor.observe.dominators import Chain
from graddoctor.observe.graph import Edge, Graph, Node

MOST = 8
"""Terms up to which each gets a backward pass of its own; a loss of more (one a time step, say) is told as one."""

_ADDING = {"add", "sub", "rsub", "lerp"}
_SCALING = {"mul", "div", "neg", "expand"}
_GATHERING = {"stack", "cat"}
_REDUCING = {"sum", "mean"}
_NETWORKS = {operations.WEIGHT, operations.ACTIVATION, operations.NORMALIZATION}
_TOLERANCE = 1e-2  # half types round the sum of the terms' gradients


@dataclass(frozen=True)
class LossShare:
    """One term of the loss.

    Attributes
    ----------
    name
        What computes it: ``"cross_entropy"``, ``"mse_loss"``, ``"mean"``; repeated ones with a number.
    share
        Its share of the gradient at the early end, by projection: ``⟨g_i, g⟩ / ‖g‖²``. The shares sum to 1, and one is
        negative where its term works against the sum.
    modules
        The modules whose output it reads.
    """

    name: str
    share: float
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """One term of a loss, by the edges through which the sum reads it."""

    name: str
    modules: tuple[str, ...]
    edges: tuple[Edge, ...]


def terms(graph: Graph, chain: Chain, owner: Callable[[Node], str]) -> tuple[Term, ...]:
    """Take a loss apart where it is a sum of numbers, each possibly scaled; empty with one term, or more than `MOST`.

    Terms that no sample reaches (a penalty on weights) have no part in the gradient at the early end and are left out.
    """
    network = {node for region in chain.regions for node in (*region.nodes, region.early, region.late)}
    network |= {chain.first, chain.last}
    found: dict[tuple[Node, int], list[Edge]] = {}
    for edge in _addends(graph.root, network):
        found.setdefault((edge.source, edge.output), []).append(edge)
    if not 1 < len(found) <= MOST:
        return ()
    names = _numbered([_title(source) for source, _ in found])
    return tuple(
        Term(name, tuple(dict.fromkeys(_read_by(source, network, owner))), tuple(edges))
        for name, ((source, _), edges) in zip(names, found.items(), strict=True)
    )


def _addends(root: Node, network: Collection[Node | None]) -> Iterator[Edge]:
    """Edges from the outermost sums of a loss to what is no sum any more, as written."""
    if not _opens(root, network):
        return
    waiting = root.flow[::-1]
    while waiting:
        edge = waiting.pop()
        if _opens(edge.source, network) and len(edge.source.users) == 1:
            waiting.extend(edge.source.flow[::-1])
        else:
            yield edge


def _opens(node: Node, network: Collection[Node | None]) -> bool:
    """Whether an operation only hands its gradient on to addends, times constants."""
    if node in network:
        return False
    if node.numel == 1 and node.kind in _ADDING:
        return bool(node.flow)
    if node.numel == 1 and _scales(node):
        return True
    return _gathers(node) or _reduces(node)


def _scales(node: Node) -> bool:
    """Whether an operation multiplies one addend with what is none, or changes only its form."""
    if len(node.flow) != 1 or (node.kind == "div" and node.flow[0].place != 0):
        return False
    return node.kind in _SCALING or node.sort == operations.VIEW


def _reduces(node: Node) -> bool:
    """Whether an operation adds up numbers that were gathered in a list, or scales them before that."""
    while len(node.flow) == 1 and (node.kind in _REDUCING or _scales(node)):
        node = node.flow[0].source
        if len(node.users) != 1:
            return False
    return _gathers(node)


def _gathers(node: Node) -> bool:
    return node.kind in _GATHERING and bool(node.flow) and all(edge.source.numel == 1 for edge in node.inputs)


def _title(node: Node) -> str:
    """What computes a term: the first operation on the way to the network that says more than a reduction."""
    name = node.kind
    while node.kind in _REDUCING or _scales(node):
        if len(node.flow) != 1 or node.flow[0].source.sort in _NETWORKS:
            return name
        name = name if node.kind not in _REDUCING else node.kind
        node = node.flow[0].source
    if node.kind.startswith("nll_loss") and any(edge.source.kind == "log_softmax" for edge in node.flow):
        return "cross_entropy"
    return node.kind if operations.is_loss(node.kind) or len(node.flow) == 1 else name


def _numbered(names: Sequence[str]) -> list[str]:
    counts: dict[str, int] = {}
    numbered = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        numbered.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return numbered


def _read_by(term: Node, network: Collection[Node | None], owner: Callable[[Node], str]) -> Iterator[str]:
    """Modules of the outputs of the network that a term reads; functional code on the way has none and is passed."""
    waiting, seen = [term], {term}
    while waiting:
        node = waiting.pop()
        name = (owner(node) if node.weighs else node.module) if node in network else ""
        if name:
            yield name
            continue
        sources = [edge.source for edge in reversed(node.flow) if edge.source not in seen]
        seen.update(sources)
        waiting.extend(sources)


# --- the gradient of each term ---------------------------------------------------------------------------------------


def shares(loss: Tensor, found: Sequence[Term], early: Cut, flow: Flow) -> tuple[LossShare, ...] | None:
    """Run backward once for each term, as far as the early end, and project.

    Parameters
    ----------
    loss
        Whose graph must still be there.
    found
        Its terms.
    early
        The early end.
    flow
        What the gradient of the whole loss was found to be.

    Returns
    -------
    Empty where the gradient at the early end is zero or not finite; ``None`` where a second backward pass fails or
    gives another gradient.
    """
    norm = math.hypot(*(flow.at(node) for node in early.whole))
    if not (math.isfinite(norm) and norm > 0):
        return ()
    places = [GradientEdge(node.raw, output) for node in early.whole for output in range(len(node.shapes))]
    try:
        gradients = [
            _pulled(term, arriving, places) for term, arriving in zip(found, _arriving(loss, found), strict=True)
        ]
    except Exception:  # noqa: BLE001 - the user's own backward code runs here, and some of it can run but once
        return None
    dots = _projections(gradients)
    if not math.isclose(math.fsum(dots), norm**2, rel_tol=_TOLERANCE):
        return None
    return tuple(
        LossShare(term.name, value / math.fsum(dots), term.modules) for term, value in zip(found, dots, strict=True)
    )


def _arriving(loss: Tensor, found: Iterable[Term]) -> list[list[Tensor | None]]:
    """What the sum hands to each of its terms: the factors before them."""
    seen: dict[Edge, Tensor | None] = {}
    edges = [edge for term in found for edge in term.edges]

    def hook(own: Sequence[Edge]) -> Callable[[Sequence[Tensor | None], Sequence[Tensor | None]], None]:
        def keep(leaving: Sequence[Tensor | None], arriving: Sequence[Tensor | None]) -> None:
            del arriving
            seen.update({edge: leaving[edge.place] for edge in own})

        return keep

    users = dict.fromkeys(edge.user for edge in edges)
    handles = [user.raw.register_hook(hook([edge for edge in edges if edge.user is user])) for user in users]
    try:
        places = [GradientEdge(edge.source.raw, edge.output) for edge in edges]
        torch.autograd.grad(loss, places, retain_graph=True)
    finally:
        for handle in handles:
            handle.remove()
    return [[seen[edge] for edge in term.edges] for term in found]


def _pulled(term: Term, arriving: Sequence[Tensor | None], places: Sequence[GradientEdge]) -> list[Tensor | None]:
    """Gradient of one term at each place."""
    known = [(edge, factor) for edge, factor in zip(term.edges, arriving, strict=True) if factor is not None]
    if not known:
        return [None for _ in places]
    starts = [GradientEdge(edge.source.raw, edge.output) for edge, _ in known]
    factors = [factor for _, factor in known]
    return list(torch.autograd.grad(starts, places, factors, retain_graph=True, allow_unused=True))


def _projections(gradients: Sequence[Sequence[Tensor | None]]) -> list[float]:
    """Inner product of each term's gradient with the sum of all, over all places."""
    dots = [0.0 for _ in gradients]
    for parts in zip(*gradients, strict=True):
        present = [part for part in parts if part is not None]
        if present:
            whole = sum(present[1:], start=present[0])
            for i, part in enumerate(parts):
                dots[i] += float(dot(part, whole)) if part is not None else 0.0
    return dots
