"""The forward ledger: what is left of the differences between samples, at the cuts of the gradient budget."""

from __future__ import annotations

from dataclasses import dataclass


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
