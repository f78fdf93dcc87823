"""Fewer rows, steps and points, so that a large report stays readable and its page small. Nothing is invented."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from graddoctor.show.report import HeatMap, LossCurve, Part, Row, UpdateRatios

Item = TypeVar("Item")


def fold(rows: Sequence[Row], limit: int) -> tuple[Row, ...]:
    """Fold runs of small rows into one row each, so that at most ``limit`` rows are left; the sum stays the same.

    The rows with most decades stay as they are, whoever ends the chain first of all. A folded row holds the rows it
    stands for as its parts.
    """
    if len(rows) <= limit:
        return tuple(rows)
    ranked = sorted(range(len(rows)), key=lambda index: -_weight(rows, index))
    kept = set(ranked[: max((limit - 1) // 2, 1)])
    folded: list[Row] = []
    run: list[Row] = []
    for index, row in enumerate(rows):
        if index not in kept:
            run.append(row)
            continue
        folded += [*_fold_run(run), row]
        run = []
    return (*folded, *_fold_run(run))


def _weight(rows: Sequence[Row], index: int) -> float:
    decades = rows[index].decades
    if decades is not None:
        return abs(decades)
    ends_the_chain = index + 1 == len(rows) or rows[index + 1].decades is not None
    return math.inf if ends_the_chain else 0.0


def _fold_run(run: Sequence[Row]) -> list[Row]:
    if len(run) <= 1:
        return list(run)
    decades = [row.decades for row in run if row.decades is not None]
    signals = [row.signal_decades for row in run if row.signal_decades is not None]
    predictions = [row.predicted_decades for row in run if row.predicted_decades is not None]
    return [
        Row(
            name=f"{len(run)} smaller rows",
            kind="several",
            decades=math.fsum(decades) if decades else None,
            modules=tuple(module for row in run for module in row.modules),
            size_decades=math.fsum(row.size_decades for row in run),
            signal_decades=math.fsum(signals) if len(signals) == len(run) else None,
            predicted_decades=math.fsum(predictions) if len(predictions) == len(run) else None,
            parts=tuple(Part(row.name, row.kind, row.decades) for row in run),
        )
    ]


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
