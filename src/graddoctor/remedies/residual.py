"""Skip connections for plain stacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from graddoctor.remedies.anatomy import Anatomy, Site
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.skips import add_skips
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

SHALLOWEST = 4
"""So many layers of one shape in a row make a stack worth passing by."""

_STRIDES = range(1, 9)


@dataclass(frozen=True)
class Span:
    """A skip from the output of one module to that of a later one; a projection's inputs, outputs and strides."""

    start: str
    end: str
    projection: tuple[int, ...] = ()


def residuals(facts: Facts) -> list[Remedy]:
    """Prescribe skip connections, with branches that are open from the start and with ones that are shut."""
    return [remedy for zero in (False, True) if (remedy := residual(facts, zero=zero)) is not None]


def residual(facts: Facts, *, zero: bool = False) -> Remedy | None:
    """Carry the signal past every two layers of a plain stack: ``x + branch(x) / sqrt(number of branches)``.

    A branch begins with a nonlinearity and ends before one, so that nothing stands on the way past it.

    Parameters
    ----------
    zero
        Begin with the branches shut: their scale is a parameter of each that starts at zero.

    Returns
    -------
    ``None`` where the network has skip connections, or no chain of layers of which four in a row have one shape.

    Source: He et al. 2016 (Identity mappings in deep residual networks); for the scale Balduzzi et al. 2017, for its
    start at zero De and Smith 2020.
    """
    if facts.anatomy is None or facts.anatomy.survey.branches:
        return None
    chains = [chain for chain in chains_of(facts.anatomy) if longest_run(chain) >= SHALLOWEST]
    spans = [span for chain in chains for span in _spans(chain, facts.model)]
    if not spans:
        return None
    scale = 0.0 if zero else round(len(spans) ** -0.5, 4)
    arguments: dict[str, object] = {"spans": tuple((span.start, span.end) for span in spans), "scale": scale}
    projections = {span.end: span.projection for span in spans if span.projection}
    arguments |= {"projections": projections} if projections else {}
    arguments |= {"learned": True} if zero else {}
    return Remedy.written(
        f"{len(spans)} skip connection{'s' * (len(spans) > 1)}{' that start at zero' * zero}",
        (Cause.DEPTH,),
        (Edit("model", add_skips, arguments),),
        source="He et al. 2016; De and Smith 2020" if zero else "He et al. 2016; Balduzzi et al. 2017",
        modules=tuple(span.end for span in spans),
        cost=_cost(projections, len(spans) if zero else 0),
    )


def chains_of(body: Anatomy) -> list[list[Site]]:
    """Runs of hidden nonlinearities in which each is reached through the one before it, and through no other.

    Each is given the output of a module as it is, and that module is called once.
    """
    calls = {layer.name: layer.calls for layer in body.layers}
    sites = {site.point: site for site in body.hidden if site.point and calls.get(site.point, 1) == 1}
    after: dict[str, list[Site]] = {}
    for site in sites.values():
        if len(site.before) == 1:
            after.setdefault(site.before[0], []).append(site)
    heads = [site for site in sites.values() if len(site.before) != 1 or site.before[0] not in sites]
    chains = []
    for head in heads:
        chain = [head]
        while len(following := after.get(chain[-1].point, [])) == 1:
            chain.append(following[0])
        chains.append(chain)
    return chains


def longest_run(chain: list[Site]) -> int:
    """How many in a row have the same shape."""
    longest = length = 1
    for one, other in pairwise(chain):
        length = length + 1 if one.shape == other.shape else 1
        longest = max(longest, length)
    return longest


def _spans(chain: list[Site], model: nn.Module) -> list[Span]:
    """Every two layers, from the first on; where the shape changes, through a projection if there is one."""
    spans, place = [], 0
    while place + 2 < len(chain):
        start, end = chain[place], chain[place + 2]
        projection = () if start.shape == end.shape else _projection(start, end, model)
        if projection is None:
            place += 1
            continue
        spans.append(Span(start.point, end.point, projection))
        place += 2
    return spans


def _projection(start: Site, end: Site, model: nn.Module) -> tuple[int, ...] | None:
    """Inputs, outputs and strides of a linear map from one shape to the other; ``None`` if there is none."""
    if len(start.shape) != len(end.shape):
        return None
    if isinstance(model.get_submodule(end.point), nn.Linear | nn.LayerNorm) or len(start.shape) == 2:  # noqa: PLR2004
        return (start.shape[-1], end.shape[-1]) if start.shape[:-1] == end.shape[:-1] else None
    if start.shape[0] != end.shape[0]:
        return None
    sizes = zip(start.shape[2:], end.shape[2:], strict=True)
    strides = [next((s for s in _STRIDES if (large - 1) // s + 1 == small), 0) for large, small in sizes]
    return (start.shape[1], end.shape[1], *strides) if strides and all(strides) else None


def _cost(projections: Mapping[str, tuple[int, ...]], scales: int) -> str:
    count = scales + sum(inputs * outputs for inputs, outputs, *_ in projections.values())
    return f"{count} parameters, an addition at each" if count else "an addition at each"
