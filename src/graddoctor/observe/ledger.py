"""The forward ledger: what is left of the differences between samples, at the cuts of the gradient budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graddoctor.observe.graph import Node

Reading = tuple[float, float]  # spread between samples, root mean square


@dataclass(frozen=True)
class Signal:
    """How the spread between samples changes from the early end of the network to the late one.

    The spread of a tensor ``h`` is ``‖h - mean_batch h‖ / √numel``; over a set of tensors, the same of them all as one.

    Attributes
    ----------
    rows
        Name of the budget row and decades by which the spread changes across it (< 0: samples become alike).
    total
        The sum of the rows; ``None`` where it cannot be told, and ``reason`` says why.
    levels
        log10 of the spread at every cut, early to late: one more than there are rows.
    relative
        log10 of spread over root mean square at every cut; float32 cannot tell samples apart below about -7.
    """

    rows: tuple[tuple[str, float], ...] = ()
    total: float | None = None
    reason: str | None = None
    levels: tuple[float, ...] = ()
    relative: tuple[float, ...] = ()


def signal(names: Sequence[str], cuts: Sequence[Iterable[Node]], read: Callable[[Node], Reading | None]) -> Signal:
    """Read the spread at every cut.

    Parameters
    ----------
    names
        Of the budget's rows, early to late.
    cuts
        The tensors of each cut, by the nodes that made them: one more than there are rows.
    read
        Spread and root mean square of what a node made in the forward pass, ``None`` where unknown.
    """
    levels, relative = [], []
    for nodes in cuts:
        together = _together(list(dict.fromkeys(nodes)), read)
        if together is None:
            return Signal(reason="no batch axis was found in the tensors of a cut, or the batch holds one sample")
        apart, size = together
        levels.append(_log10(apart))
        relative.append(_log10(apart / size) if size else math.nan)
    if not all(math.isfinite(level) for level in levels):
        place = next(i for i, level in enumerate(levels) if not math.isfinite(level))
        what = "are all alike" if levels[place] == -math.inf else "are not finite"
        where = names[min(place, len(names) - 1)] if names else "the output"
        return Signal(reason=f"samples {what} from {where} on", levels=tuple(levels), relative=tuple(relative))
    changes = [late - early for early, late in pairwise(levels)]
    return Signal(tuple(zip(names, changes, strict=True)), math.fsum(changes), None, tuple(levels), tuple(relative))


def _together(nodes: Sequence[Node], read: Callable[[Node], Reading | None]) -> Reading | None:
    apart = size = 0.0
    count = 0
    for node in nodes:
        found = read(node)
        if found is None:
            return None
        apart += found[0] ** 2 * node.numel
        size += found[1] ** 2 * node.numel
        count += node.numel
    return (math.sqrt(apart / count), math.sqrt(size / count)) if count else None


def _log10(value: float) -> float:
    if value == 0:
        return -math.inf
    return math.log10(value) if math.isfinite(value) else math.nan
