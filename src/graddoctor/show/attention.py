"""The table of attention that the faces of a report share: a row for each, what it was at the start and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graddoctor.show.report import AttentionState, LayerAttention
from graddoctor.show.thin import pick

MOST = 24
"""Rows in a table; of more, evenly spaced ones are shown."""

CAPTION = (
    "Of each attention at the start and at the end: the largest logit, the entropy of its rows as a share of what the "
    "mask allows (0: every query looks at one key), the share of rows that are saturated, and the mean cosine between "
    "two tokens of a sequence (1: all are the same)."
)


@dataclass(frozen=True)
class Column:
    """One figure: its heading, the field of a state, and how it is written."""

    heading: str
    field: str
    form: str


COLUMNS = (
    Column("entropy", "entropy", "{:.2f}"),
    Column("saturated", "saturated", "{:.0%}"),
    Column("largest logit", "logit_max", "{:.3g}"),
    Column("cosine", "similarity", "{:.2f}"),
    Column("rank", "rank", "{:.1f}"),
)
"""The figures, the most telling first: narrow faces leave out the last."""


def cells(layer: LayerAttention, columns: Sequence[Column] = COLUMNS) -> tuple[str, ...]:
    """Write the figures of one attention, ``"0.99 → 0.38"`` where it was seen twice; ``"-"``: not measured."""
    return tuple(_cell(column, layer.start, layer.end) for column in columns)


def shown(layers: Sequence[LayerAttention], most: int = MOST) -> tuple[LayerAttention, ...]:
    """Choose the rows of a table."""
    return tuple(layers[place] for place in pick(len(layers), most))


def _cell(column: Column, start: AttentionState | None, end: AttentionState | None) -> str:
    values = [getattr(state, column.field) for state in (start, end) if state is not None]
    return " → ".join("-" if value is None else column.form.format(value) for value in values) or "-"
