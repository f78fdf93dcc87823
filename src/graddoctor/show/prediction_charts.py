"""The pictures of a prediction: the phase diagram with the network's layers, and the budget beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt

from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.charts import budget_colour, budget_panel, waterfall_bars
from graddoctor.show.palette import LIGHT, Palette
from graddoctor.show.prediction import PhaseDiagram
from graddoctor.show.report import Waterfall
from graddoctor.show.thin import fold

ROWS = 40
"""Budget rows in the picture; smaller ones beyond are folded together."""

_STRONG = 0.25  # decades a layer at which colours are full
_LABELS = (("ordered", -1), ("chaotic", 1))


def phase_chart(diagram: PhaseDiagram, palette: Palette = LIGHT) -> Chart:
    """Draw the phase diagram alone."""
    return axes.finish(phase_panel(diagram, palette).properties(width=430, height=300), palette)


def prediction_chart(diagram: PhaseDiagram | None, budget: Waterfall | None, palette: Palette = LIGHT) -> Chart | None:
    """Draw what there is: the budget, and the phase diagram beside it."""
    panels = []
    if budget is not None and budget.rows:
        shown = replace(budget, rows=fold(budget.rows, ROWS))
        bars = waterfall_bars([(row.name, row) for row in reversed(shown.rows)], shown)
        panels.append(budget_panel(bars, budget_colour(bars, palette)).properties(width=380))
    if diagram is not None:
        panels.append(phase_panel(diagram, palette).properties(width=380, height=300))
    if not panels:
        return None
    whole = panels[0] if len(panels) == 1 else alt.hconcat(*panels).resolve_scale(color="independent")
    return axes.finish(whole, palette)


def phase_panel(diagram: PhaseDiagram, palette: Palette) -> alt.LayerChart:
    """Draw decades a layer over σ_w and σ_b, the edge of chaos, and the layers as points."""
    x, y = _scales(diagram)
    layers = [_cells(diagram, palette, x, y), *_edge(diagram, palette, x, y), *_labels(diagram, palette, x, y)]
    layers.append(_points(diagram, palette, x, y))
    return alt.layer(*layers).resolve_scale(color="independent")  # type: ignore[no-any-return]


def _scales(diagram: PhaseDiagram) -> tuple[dict[str, Any], dict[str, Any]]:
    across = alt.Scale(domain=[0.0, diagram.weight_stds[-1]], nice=False)
    up = alt.Scale(domain=[0.0, diagram.bias_stds[-1]], nice=False)
    title = f"σ_w: standard deviation of the weights × √fan_in ({diagram.activation})"
    grid = alt.Axis(grid=False)
    return {"title": title, "scale": across, "axis": grid}, {"title": "σ_b: of the biases", "scale": up, "axis": grid}


def _cells(diagram: PhaseDiagram, palette: Palette, x: dict[str, Any], y: dict[str, Any]) -> alt.Chart:
    rows = [
        {
            "left": axes.short(diagram.weight_stds[j]),
            "right": axes.short(diagram.weight_stds[j + 1]),
            "low": axes.short(diagram.bias_stds[i]),
            "high": axes.short(diagram.bias_stds[i + 1]),
            "decades": axes.short(value),
        }
        for i, line in enumerate(diagram.decades)
        for j, value in enumerate(line)
    ]
    scale = alt.Scale(
        domain=[-_STRONG, 0, _STRONG], range=[palette.lost, palette.paper, palette.gained], clamp=True, type="linear"
    )
    legend = alt.Legend(title="decades of gradient a layer", orient="top", format="+.2f", values=[-_STRONG, 0, _STRONG])
    cells = alt.Chart(axes.data(rows)).mark_rect(opacity=0.75, stroke=None)
    return cells.encode(  # type: ignore[no-any-return]
        x=alt.X("left:Q", **x), x2="right:Q", y=alt.Y("low:Q", **y), y2="high:Q",
        color=alt.Color("decades:Q", scale=scale, legend=legend),
        tooltip=[alt.Tooltip("decades:Q")],
    )  # fmt: skip


def _edge(diagram: PhaseDiagram, palette: Palette, x: dict[str, Any], y: dict[str, Any]) -> list[alt.Chart]:
    points = list(zip(diagram.edge_weight_stds, diagram.edge_bias_stds, strict=True))
    if not points:
        return []
    rows = [{"w": axes.short(w), "b": axes.short(b), "place": i} for i, (w, b) in enumerate(points)]
    line = alt.Chart(axes.data(rows)).mark_line(color=palette.ink, strokeWidth=1.6, clip=True)
    shown = {"x": alt.X("w:Q", **x), "y": alt.Y("b:Q", **y)}
    drawn = [line.encode(**shown, order="place:Q")]
    if max(b for _, b in points) - min(b for _, b in points) < 0.02 * diagram.bias_stds[-1]:
        mark = alt.Chart(axes.data(rows[:1])).mark_point(color=palette.ink, shape="diamond", size=110, filled=True)
        drawn.append(mark.encode(**shown))
    return drawn


def _labels(diagram: PhaseDiagram, palette: Palette, x: dict[str, Any], y: dict[str, Any]) -> list[alt.Chart]:
    """Name each phase in the middle of its cells, and the edge at its upper end."""
    rows = []
    for name, sign in _LABELS:
        cells = [
            (j, i)
            for i, line in enumerate(diagram.decades)
            for j, value in enumerate(line)
            if value * sign > 0.01  # noqa: PLR2004 - inside the phase, off its edge
        ]
        if len(cells) >= 12:  # noqa: PLR2004 - room for a word
            rows.append(_at(diagram, name, cells))
    text = alt.Chart(axes.data(rows)).mark_text(color=palette.ink, fontSize=13, fontStyle="italic")
    return [text.encode(x=alt.X("w:Q", **x), y=alt.Y("b:Q", **y), text="name:N")] if rows else []


def _at(diagram: PhaseDiagram, name: str, cells: Sequence[tuple[int, int]]) -> dict[str, Any]:
    i = sorted(row for _, row in cells)[len(cells) * 2 // 3]
    own = sorted(column for column, row in cells if row == i)
    j = own[len(own) // 2]
    return {
        "name": name,
        "w": axes.short((diagram.weight_stds[j] + diagram.weight_stds[j + 1]) / 2),
        "b": axes.short((diagram.bias_stds[i] + diagram.bias_stds[i + 1]) / 2),
    }


def _points(diagram: PhaseDiagram, palette: Palette, x: dict[str, Any], y: dict[str, Any]) -> alt.Chart:
    rows = [
        {
            "name": axes.named(one.name),
            "w": axes.short(min(one.weight_std, diagram.weight_stds[-1])),
            "b": axes.short(min(one.bias_std, diagram.bias_stds[-1])),
            "feeds": one.activation or "-",
        }
        for one in diagram.points
    ]
    dots = alt.Chart(axes.data(rows)).mark_circle(color=palette.accent, size=70, opacity=0.85, stroke=palette.card)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("name", "feeds")] + [alt.Tooltip("w:Q"), alt.Tooltip("b:Q")]
    return dots.encode(x=alt.X("w:Q", **x), y=alt.Y("b:Q", **y), tooltip=tooltip)  # type: ignore[no-any-return]
