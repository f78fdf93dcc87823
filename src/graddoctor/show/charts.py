"""The pictures of a report, one function each: data in, an Altair chart out, nothing computed but where to draw.

Charts of depth have the loss at the top and the input at the bottom. Every function takes the `Palette` to draw in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import DEPTHS, LIGHT, Palette
from graddoctor.show.report import Event, HeatMap, LayerActivation, LossCurve, Row, UpdateRatios, Waterfall
from graddoctor.show.words import signed
from graddoctor.terms import Severity


def budget_chart(waterfall: Waterfall, palette: Palette = LIGHT) -> Chart:
    """Draw the decades of gradient row by row, a waterfall from the loss down, and the forward signal beside it."""
    rows = [(row.name, row) for row in reversed(waterfall.rows)]
    bars = waterfall_bars(rows, waterfall)
    ledger = budget_panel(bars, budget_colour(bars, palette)).properties(width=430)
    if all(bar["signal"] is None for bar in bars):
        return axes.finish(ledger, palette)
    signal = alt.Chart(axes.data(bars)).mark_bar(color=palette.accent)
    signal = signal.encode(
        x=alt.X("signal:Q", title="decades of forward signal"),
        y=axes.depth_axis([bar["name"] for bar in bars], labels=False),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("signal:Q")],
    )
    return axes.finish(alt.hconcat(ledger, axes.tall(signal, len(bars)).properties(width=170)), palette)


def budget_panel(
    bars: Sequence[Mapping[str, Any]],
    colour: alt.Color,
    *,
    domain: tuple[float, float] | None = None,
    labels: bool = True,
) -> alt.LayerChart:
    """Draw one waterfall; on a scale of its own, unless it shares one (``domain``)."""
    base = alt.Chart(axes.data(bars)).encode(y=axes.depth_axis([bar["name"] for bar in bars], labels=labels))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("name", "kind", "decades")]
    scale = alt.Undefined if domain is None else alt.Scale(domain=list(domain), nice=True)
    foreseen = any(bar.get("theory") is not None for bar in bars)
    title = f"decades of gradient, counted from the loss{' (ticks: where theory ends each row)' * foreseen}"
    x = alt.X("from:Q", title=title, scale=scale)
    spans = base.mark_bar().encode(x=x, x2="to:Q", color=colour, tooltip=tooltip)
    ends = base.transform_filter("datum.what == 'ends here'").mark_point(shape="cross", filled=True, size=90, angle=45)
    layers = [spans, ends.encode(x="to:Q", color=colour, tooltip=tooltip)]
    if foreseen:
        told = [alt.Tooltip("name:N"), alt.Tooltip("theory:Q", title="expected by theory")]
        ticks = base.transform_filter("datum.theory !== null").mark_tick(thickness=2, size=14, opacity=0.9)
        layers.append(ticks.encode(x="theory:Q", tooltip=told))
    ledger = alt.layer(*layers)
    return axes.tall(ledger, len(bars))  # type: ignore[no-any-return]


def budget_colour(bars: Sequence[Mapping[str, Any]], palette: Palette) -> alt.Color:
    """Colour the bars of a waterfall by what happens to the gradient."""
    return axes.series("what", {"lost": palette.lost, "gained": palette.gained, "ends here": palette.bad}, bars)


def waterfall_bars(rows: Sequence[tuple[str, Row | None]], waterfall: Waterfall) -> list[dict[str, Any]]:
    """Say where each bar of a waterfall begins and ends, from the loss down; a row that it lacks has none."""
    bars: list[dict[str, Any]] = []
    left = 0.0
    for name, row in rows:
        if row is None:
            bars.append({"name": axes.named(name), "what": "", "signal": None})
            continue
        change = row.decades or 0.0
        span = {"from": axes.short(left), "to": axes.short(left + change)}
        what = "ends here" if row.name == waterfall.cut else "lost" if change < 0 else "gained" if change > 0 else ""
        told = {"name": axes.named(name), "kind": row.kind, "decades": signed(row.decades)}
        theory = None if row.predicted_decades is None else axes.short(left + row.predicted_decades)
        foreseen = {} if waterfall.predicted_total is None else {"theory": theory}
        bars.append({**told, **span, "what": what, "signal": axes.short(row.signal_decades), **foreseen})
        left += change
    return bars


def heat_chart(heat: HeatMap, palette: Palette = LIGHT) -> Chart:
    """Draw the norm of the gradient over depth and step; zeros and non-finite cells have colours of their own."""
    names = [axes.named(name) for name in heat.names]
    cells: list[dict[str, Any]] = [
        {"name": name, "step": step, "log10": axes.short(value)}
        for name, row in zip(names, heat.values, strict=True)
        for step, value in zip(heat.steps, row, strict=True)
        if value is not None
    ]
    odd: list[dict[str, Any]] = [
        {"name": names[i], "step": heat.steps[j], "what": what}
        for what, places in (("exactly zero", heat.zero_cells), ("not finite", heat.nonfinite_cells))
        for i, j in places
    ]
    x = alt.X("step:O", title="step", sort=list(heat.steps), axis=alt.Axis(labelAngle=0, labelOverlap=True))
    y = axes.depth_axis(names[::-1])
    norm = axes.norm_colour([cell["log10"] for cell in cells])
    tooltip = [alt.Tooltip("name:N"), alt.Tooltip("step:O")]
    layers = [
        alt.Chart(axes.data(cells)).mark_rect().encode(x=x, y=y, color=norm, tooltip=[*tooltip, alt.Tooltip("log10:Q")])
    ]
    if odd:
        colour = axes.series("what", {"exactly zero": palette.quiet, "not finite": palette.bad}, odd, below=True)
        marks = alt.Chart(axes.data(odd)).mark_rect()
        layers.append(marks.encode(x=x, y=y, color=colour, tooltip=[*tooltip, alt.Tooltip("what:N")]))
    chart = alt.layer(*layers[not cells :]).resolve_scale(color="independent")
    return axes.finish(axes.tall(chart, len(heat.names)), palette)


def distribution_chart(activations: Sequence[LayerActivation], palette: Palette = LIGHT) -> Chart:
    """Draw the outputs of every nonlinearity as a ridge of histograms, at the start and at the end of training."""
    shown = [layer for layer in activations if any(state.shares for _, state in axes.states(layer))]
    points: list[dict[str, Any]] = [
        {"name": _label(layer), "place": place, "when": when, "value": axes.short(x), "top": axes.short(y)}
        for place, layer in enumerate(shown)
        for when, state in axes.states(layer)
        if state.shares
        for x, y in axes.ridge(place, state)
    ]
    ridges = alt.Chart(axes.data(points)).mark_area(
        interpolate="step-after", fillOpacity=0.25, line={"strokeWidth": 1.3}
    )
    chart = ridges.encode(
        x=axes.value_x(max((abs(point["value"]) for point in points), default=1.0)),
        y=axes.ridge_y([_label(layer) for layer in shown]),
        y2="place:Q",
        detail="name:N",
        color=axes.series("when", {"start": palette.quiet, "end": palette.accent}, points),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("when:N")],
    )
    return axes.finish(axes.tall(chart, len(shown), step=30), palette)


def _label(layer: LayerActivation) -> str:
    return axes.named(layer.name if layer.kind in layer.name.lower() else f"{layer.name} {layer.kind}")


def saturation_chart(activations: Sequence[LayerActivation], palette: Palette = LIGHT) -> Chart:
    """Draw the shares of saturated values and dead units by layer: bars when last seen, a tick at the start."""
    rows: list[dict[str, Any]] = [
        {"name": _label(layer), "what": what, "when": when, "share": axes.short(share)}
        for layer in activations
        for when, state in axes.states(layer)
        for what, share in (("saturated values", state.saturated), ("dead units", state.dead))
        if share is not None
    ]
    last = {row["name"]: row["when"] for row in rows}
    names = list(last)[::-1]
    rows = [{**row, "last": row["when"] == last[row["name"]]} for row in rows]
    base = alt.Chart(axes.data(rows)).encode(
        x=alt.X("share:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
        y=axes.depth_axis(names),
        yOffset=alt.YOffset("what:N"),
        color=axes.series("what", {"saturated values": palette.warn, "dead units": palette.bad}, rows),
        tooltip=[alt.Tooltip(f"{field}:N") for field in ("name", "what", "when")]
        + [alt.Tooltip("share:Q", format=".1%")],
    )
    bars = base.transform_filter("datum.last").mark_bar(opacity=0.8)
    ticks = base.transform_filter("datum.when == 'start'").mark_tick(thickness=2)
    return axes.finish(axes.tall(alt.layer(bars, ticks), len(names), step=24), palette)


def update_chart(updates: UpdateRatios, palette: Palette = LIGHT) -> Chart:
    """Draw the update-to-weight ratio of every parameter on an axis of decades, the healthy band behind."""
    points: list[dict[str, Any]] = [
        {"parameter": name, "step": step, "ratio": value, "depth": depth}
        for depth, (name, row) in enumerate(zip(updates.names, updates.values, strict=True))
        for step, ratio in zip(updates.steps, row, strict=True)
        if (value := axes.short(ratio)) is not None and value > 0
    ]
    low, high = updates.band
    vertical = axes.ratio_y("update / weight (norms)", [low / 10, high * 10, *(point["ratio"] for point in points)])
    band = alt.Chart(axes.data([{"low": low, "high": high, "what": "healthy band"}])).mark_rect(opacity=0.16)
    healthy = axes.series("what", {"healthy band": palette.good}, [{"what": "healthy band"}])
    depth = alt.Color(
        "depth:Q",
        title="depth",
        scale=alt.Scale(range=list(DEPTHS), domain=[0, max(len(updates.names) - 1, 1)]),
        legend=alt.Legend(
            values=[0, max(len(updates.names) - 1, 1)],
            labelExpr="datum.value == 0 ? 'input' : 'loss'",
        ),
    )
    lines = alt.Chart(axes.data(points)).mark_line(point={"size": 16}, strokeWidth=1.3, opacity=0.8)
    layers = (
        band.encode(y=alt.Y("low:Q", **vertical), y2="high:Q", color=healthy),
        lines.encode(
            x=axes.step_x(updates.steps),
            y=alt.Y("ratio:Q", **vertical),
            detail="parameter:N",
            color=depth,
            tooltip=[alt.Tooltip("parameter:N"), alt.Tooltip("step:Q"), alt.Tooltip("ratio:Q", format=".2e")],
        ),
    )
    return axes.finish(alt.layer(*layers).resolve_scale(color="independent").properties(height=300), palette)


def loss_chart(losses: LossCurve, events: Sequence[Event] = (), palette: Palette = LIGHT) -> Chart:
    """Draw the training loss and the constant predictor's; numbered lines mark events, a tint what is not finite."""
    names = ("loss", "smoothed") if losses.smoothed else ("loss",)
    points: list[dict[str, Any]] = [
        {"step": step, "loss": axes.short(value), "series": name}
        for name, values in zip(names, (losses.values, losses.smoothed), strict=False)
        for step, value in zip(losses.steps, values, strict=True)
        if value is not None
    ]
    baseline = (
        [{"loss": axes.short(losses.baseline), "series": "constant predictor"}] if losses.baseline is not None else []
    )
    colours = {"loss": palette.quiet if losses.smoothed else palette.accent, "smoothed": palette.accent}
    colour = axes.series("series", {**colours, "constant predictor": palette.warn}, points + baseline)
    y = axes.loss_y([point["loss"] for point in points + baseline])
    x = axes.plain_step_x(losses.steps)
    curve = (
        alt.Chart(axes.data(points))
        .mark_line()
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeWidth=alt.condition("datum.series == 'smoothed'", alt.value(2.2), alt.value(1.2)),
            opacity=alt.condition(f"datum.series == '{names[-1]}'", alt.value(1), alt.value(0.45)),
            tooltip=[alt.Tooltip("step:Q"), alt.Tooltip("loss:Q"), alt.Tooltip("series:N")],
        )
    )
    rule = alt.Chart(axes.data(baseline)).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    rule = rule.encode(y=y, color=colour, tooltip=[alt.Tooltip("series:N"), alt.Tooltip("loss:Q")])
    layers = [*_nonfinite(losses, x, palette), curve, *([rule] if baseline else []), *_events(events, x, palette)]
    return axes.finish(alt.layer(*layers).properties(height=300), palette)


def _nonfinite(losses: LossCurve, x: alt.X, palette: Palette) -> list[alt.Chart]:
    first = losses.first_nonfinite
    if first is None:
        return []
    area = alt.Chart(axes.data([{"step": first, "last": losses.steps[-1], "what": "not finite"}]))
    tint = area.mark_rect(opacity=0.14, color=palette.bad).encode(x=x, x2="last:Q", tooltip=alt.Tooltip("what:N"))
    label = area.mark_text(align="left", baseline="top", dx=5, dy=16, color=palette.bad, text="not finite")
    return [tint, label.encode(x=x, y=alt.value(0))]


def _events(events: Sequence[Event], x: alt.X, palette: Palette) -> list[alt.Chart]:
    colours = {Severity.NOTE: palette.quiet, Severity.WARNING: palette.warn, Severity.CRITICAL: palette.bad}
    marks = []
    for place, event in enumerate(events, start=1):
        base = alt.Chart(axes.data([{"step": event.step, "event": event.text, "number": str(place)}]))
        base = base.encode(x=x, tooltip=[alt.Tooltip("step:Q"), alt.Tooltip("event:N")])
        marks.append(base.mark_rule(color=colours[event.severity], strokeWidth=1.3))
        text = base.mark_text(color=colours[event.severity], baseline="top", align="left", dx=4, fontWeight=600)
        marks.append(text.encode(text="number:N", y=alt.value(0)))
    return marks
