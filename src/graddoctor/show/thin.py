"""Fewer rows, steps and points, so that a large report stays readable and its page small. Nothing is invented."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from graddoctor.show.names import BESIDE, became
from graddoctor.show.report import HeatMap, LossCurve, Part, Row, UpdateRatios

Item = TypeVar("Item")


def fold(rows: Sequence[Row], limit: int) -> tuple[Row, ...]:
    """Fold runs of small rows into one row each, so that at most ``limit`` rows are left; the sum stays the same.

    The rows with most decades stay as they are, whoever ends the chain first of all. A folded row holds the rows it
    stands for as its parts.
    """
    stretches = _stretches([_weight(rows, index) for index in range(len(rows))], limit)
    return tuple(_merged([rows[index] for index in stretch]) for stretch in stretches)


RowPair = tuple[Row | None, Row | None]
"""The same row of two budgets; ``None`` where one of them has no such row."""


def pair_name(pair: RowPair) -> str:
    """Name a row of two budgets."""
    before, after = (None if row is None else row.name for row in pair)
    return became(before, after)


def pair_rows(before: Sequence[Row], after: Sequence[Row], limit: int) -> tuple[RowPair, ...]:
    """Put the rows of two budgets side by side by their names, in their order, folded like those of one budget."""
    places = list(_places([_head(row) for row in before], [_head(row) for row in after]))
    weights = [
        max(0.0 if i is None else _weight(before, i), 0.0 if j is None else _weight(after, j)) for i, j in places
    ]
    pairs = [(None if i is None else before[i], None if j is None else after[j]) for i, j in places]
    return tuple(_merged_pair([pairs[index] for index in stretch]) for stretch in _stretches(weights, limit))


def _places(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[int | None, int | None]]:
    """Give the places of the same names in two lists; ``None`` where one of them lacks it."""
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for same, i, end_i, j, end_j in matcher.get_opcodes():
        if same == "equal":
            yield from zip(range(i, end_i), range(j, end_j), strict=True)
        else:
            yield from ((place, None) for place in range(i, end_i))
            yield from ((None, place) for place in range(j, end_j))


def _head(row: Row) -> str:
    return row.name.partition(BESIDE)[0]


def _merged_pair(pairs: Sequence[RowPair]) -> RowPair:
    before = [one for one, _ in pairs if one is not None]
    after = [other for _, other in pairs if other is not None]
    return _merged(before) if before else None, _merged(after) if after else None


def _stretches(weights: Sequence[float], limit: int) -> list[list[int]]:
    """Split a sequence into at most ``limit`` stretches: the heaviest places alone, the runs between them together."""
    if len(weights) <= limit:
        return [[index] for index in range(len(weights))]
    ranked = sorted(range(len(weights)), key=lambda index: -weights[index])
    kept = set(ranked[: max((limit - 1) // 2, 1)])
    stretches: list[list[int]] = []
    for index in range(len(weights)):
        if index in kept or not stretches or stretches[-1][-1] in kept:
            stretches.append([])
        stretches[-1].append(index)
    return stretches


def _weight(rows: Sequence[Row], index: int) -> float:
    decades = rows[index].decades
    if decades is not None:
        return abs(decades)
    ends_the_chain = index + 1 == len(rows) or rows[index + 1].decades is not None
    return math.inf if ends_the_chain else 0.0


def _merged(run: Sequence[Row]) -> Row:
    if len(run) == 1:
        return run[0]
    decades = [row.decades for row in run if row.decades is not None]
    signals = [row.signal_decades for row in run if row.signal_decades is not None]
    predictions = [row.predicted_decades for row in run if row.predicted_decades is not None]
    return Row(
        name=f"{len(run)} smaller rows",
        kind="several",
        decades=math.fsum(decades) if decades else None,
        modules=tuple(module for row in run for module in row.modules),
        size_decades=math.fsum(row.size_decades for row in run),
        signal_decades=math.fsum(signals) if len(signals) == len(run) else None,
        predicted_decades=math.fsum(predictions) if len(predictions) == len(run) else None,
        parts=tuple(Part(row.name, row.kind, row.decades) for row in run),
    )


def pick(count: int, limit: int) -> list[int]:
    """Indices of at most ``limit`` out of ``count`` things, evenly spread, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return sorted({round(index * (count - 1) / (limit - 1)) for index in range(limit)})


def thin_heat(heat: HeatMap, names: int, steps: int) -> HeatMap:
    """Show fewer layers and fewer steps of a heat map."""
    rows, columns = pick(len(heat.names), names), pick(len(heat.steps), steps)
    row_at, column_at = ({old: new for new, old in enumerate(kept)} for kept in (rows, columns))

    def moved(cells: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((row_at[i], column_at[j]) for i, j in cells if i in row_at and j in column_at)

    return HeatMap(
        names=tuple(heat.names[i] for i in rows),
        steps=tuple(heat.steps[j] for j in columns),
        values=tuple(tuple(heat.values[i][j] for j in columns) for i in rows),
        zero_cells=moved(heat.zero_cells),
        nonfinite_cells=moved(heat.nonfinite_cells),
    )


def thin_updates(updates: UpdateRatios, names: int, steps: int) -> UpdateRatios:
    """Show fewer parameters and fewer steps of the update ratios."""
    rows, columns = pick(len(updates.names), names), pick(len(updates.steps), steps)
    return replace(
        updates,
        names=tuple(updates.names[i] for i in rows),
        steps=tuple(updates.steps[j] for j in columns),
        values=tuple(tuple(updates.values[i][j] for j in columns) for i in rows),
    )


def thin_losses(curve: LossCurve, limit: int) -> LossCurve:
    """Show at most ``limit`` points of a loss curve: of each stretch the lowest, the highest and the not finite."""
    count = len(curve.steps)
    if count <= limit:
        return curve
    stretches = max(limit // 3, 1)
    kept: set[int] = set()
    for stretch in range(stretches):
        indices = range(stretch * count // stretches, (stretch + 1) * count // stretches)
        finite = [(value, i) for i in indices if (value := curve.values[i]) is not None]
        kept.update(i for _, i in (finite and (min(finite), max(finite))))
        kept.update([i for i in indices if curve.values[i] is None][:1])
    order = sorted(kept)

    def at(values: Sequence[Item]) -> tuple[Item, ...]:
        return tuple(values[i] for i in order)

    return replace(
        curve, steps=at(curve.steps), values=at(curve.values), smoothed=at(curve.smoothed) if curve.smoothed else ()
    )
