"""Budgets as the page draws them: where each bar begins and how long it is, in percent of its track."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graddoctor.show import words
from graddoctor.show.names import BESIDE
from graddoctor.show.report import Part, Row, Waterfall
from graddoctor.show.thin import fold, pair_name, pair_rows

_WIDEST = 34  # characters of a row's name


@dataclass(frozen=True)
class Bar:
    """One row of a budget as it is drawn; ``expected``: where theory ends it."""

    row: Row
    value: str
    begin: float
    length: float
    expected: float | None
    tone: str
    signal: str
    signal_length: float
    share: float
    parts: tuple[tuple[int, Part], ...]
    hidden: int
    shared: bool


@dataclass(frozen=True)
class Line:
    """A row of the page: its name, what stands beside it, and its bars (``None``: no such row on that side)."""

    name: str
    full: str
    beside: str
    bars: tuple[Bar | None, ...]


@dataclass(frozen=True)
class Ledger:
    """One budget, or two on one scale, from the loss down to the input."""

    lines: tuple[Line, ...]
    waterfalls: tuple[Waterfall, ...]
    low: float
    high: float
    with_signal: bool = False

    @property
    def foreseen(self) -> bool:
        """Whether theory expects anything of any row."""
        return any(bar is not None and bar.expected is not None for line in self.lines for bar in line.bars)

    @property
    def zero(self) -> float:
        """Where nothing is lost and nothing gained, in percent of the track."""
        return round(-100 * self.low / ((self.high - self.low) or 1.0), 2)


def ledger(waterfall: Waterfall, rows: int, parts: int) -> Ledger:
    """Draw one budget, with the forward signal where it was measured."""
    shown = fold(waterfall.rows, rows)[::-1]
    drawn = _drawn([[*shown]], (waterfall,), parts)
    return replace(drawn, with_signal=any(row.signal_decades is not None for row in shown))


def ledger_of_two(before: Waterfall, after: Waterfall, rows: int, parts: int) -> Ledger:
    """Draw two budgets beside each other, row beside row, on one scale."""
    pairs = pair_rows(before.rows, after.rows, rows)[::-1]
    return _drawn([[one for one, _ in pairs], [other for _, other in pairs]], (before, after), parts)


def _drawn(columns: Sequence[Sequence[Row | None]], waterfalls: tuple[Waterfall, ...], parts: int) -> Ledger:
    edges = [edge for column in columns for edge in _edges(column)]
    low, high = min(edges), max(edges)
    sides = [
        list(_bars(column, waterfall, low, high, parts)) for column, waterfall in zip(columns, waterfalls, strict=True)
    ]
    full = [pair_name((rows[0], rows[-1])) for rows in zip(*columns, strict=True)]
    lines = []
    for whole, name, bars in zip(full, words.fitted(full, _WIDEST), zip(*sides, strict=True), strict=True):
        head, _, beside = name.partition(BESIDE)
        lines.append(Line(head, whole, beside, bars))
    return Ledger(tuple(lines), tuple(replace(one, rows=()) for one in waterfalls), low, high)


def _edges(rows: Sequence[Row | None]) -> list[float]:
    edges = [0.0]
    for row in rows:
        edges.append(edges[-1] + (row.decades or 0.0 if row is not None else 0.0))
    return edges


def _bars(
    rows: Sequence[Row | None], waterfall: Waterfall, low: float, high: float, parts: int
) -> Iterator[Bar | None]:
    span = (high - low) or 1.0
    edges = _edges(rows)
    signals = [abs(row.signal_decades) for row in rows if row is not None and row.signal_decades is not None]
    loudest = max(signals, default=0.0) or 1.0
    for row, start, end in zip(rows, edges, edges[1:], strict=False):
        yield (
            None
            if row is None
            else Bar(
                row=row,
                value=words.row_value(row, waterfall),
                begin=round(100 * (min(start, end) - low) / span, 2),
                length=round(100 * abs(end - start) / span, 2),
                expected=_expected(row, start, low, span),
                tone=_tone(row, waterfall),
                signal=words.signed(row.signal_decades),
                signal_length=round(100 * abs(row.signal_decades or 0.0) / loudest, 2),
                share=_share(row, waterfall),
                **_opened(row, parts),
            )
        )


def _expected(row: Row, start: float, low: float, span: float) -> float | None:
    if row.predicted_decades is None:
        return None
    return round(min(max(100 * (start + row.predicted_decades - low) / span, 0.0), 100.0), 2)


def _opened(row: Row, limit: int) -> dict[str, Any]:
    parts = tuple(_flat(row.parts))
    return {
        "parts": parts[:limit],
        "hidden": max(len(parts) - limit, 0),
        "shared": any(part.share is not None for _, part in parts),
    }


def _tone(row: Row, waterfall: Waterfall) -> str:
    if row.name == waterfall.cut:
        return "cut"
    return "unknown" if row.decades is None else "lost" if row.decades < 0 else "gained"


def _share(row: Row, waterfall: Waterfall) -> float:
    """What part of the total a row is; ``nan`` where that says nothing."""
    if row.decades is None or abs(waterfall.total) < 0.5:  # noqa: PLR2004 - half a decade is no loss to share out
        return math.nan
    share = row.decades / waterfall.total
    return share if share > 0 else math.nan


def _flat(parts: tuple[Part, ...], depth: int = 0) -> Iterator[tuple[int, Part]]:
    for part in parts:
        yield depth, part
        yield from _flat(part.parts, depth + 1)
