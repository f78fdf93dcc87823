"""The gradient budget: where the gradient is lost or gained on its way from the loss to the first layer."""

from __future__ import annotations

from dataclasses import dataclass, field

from graddoctor.observe.ledger import Signal


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
    names the row in which it becomes exactly zero or not finite; ``total`` then covers the rows after it.
    """

    rows: tuple[Row, ...]
    total: float
    cut: str | None
    signal: Signal = field(default_factory=Signal)

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
            if row.kind in {"residual", "joint"}:
                totals[row.kind] = totals.get(row.kind, 0.0) + rest
        return totals

    def by_module(self) -> dict[str, float]:
        """Decades by row name."""
        totals: dict[str, float] = {}
        for row in self.rows:
            totals[row.name] = totals.get(row.name, 0.0) + row.decades
        return totals
