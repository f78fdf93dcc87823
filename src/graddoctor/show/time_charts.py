"""The pictures of the gradient through time: what is left of it after a lag, and how open the gates were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import LIGHT, Palette
from graddoctor.show.report import LagProfile, ThroughTime
from graddoctor.show.thin import pick

MOST = 6
"""Layers that one picture tells apart."""

_POINTS = 200
_HORIZONS = {"a tenth left": -1, "a thousandth left": -3}
_DASHES = {"start": [5, 3], "end": [1, 0]}


def lag_chart(recurrences: Sequence[ThroughTime], palette: Palette = LIGHT) -> Chart:
    """Draw what is left of the gradient over the lag, a line each; where one and three decades are lost is marked."""
    shown = _shown(recurrences)
    points: list[dict[str, Any]] = [
        {"name": name, "when": when, "lag": lag, "left": axes.short(left)}
        for name, when, profile in shown
        for lag, left in _thin(profile)
        if left is not None
    ]
    marks: list[dict[str, Any]] = [
        {"name": name, "when": when, "lag": lag, "left": float(level), "mark": mark}
        for name, when, profile in shown
        for (mark, level), lag in zip(_HORIZONS.items(), (profile.horizon_1, profile.horizon_3), strict=True)
        if lag is not None
    ]
    farthest = max([point["lag"] for point in points] + [1])
    x = alt.X("lag:Q", title="lag, time steps back from the last", scale=alt.Scale(domain=[0, farthest], nice=False))
    y = alt.Y("left:Q", title="gradient left, decades (log10)", scale=_decades([point["left"] for point in points]))
    colour = axes.series("name", _colours([name for name, _, _ in shown], palette), points)
    line = (
        alt.Chart(axes.data(points)).mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, strokeDash=_when(points))
    )
    line = line.encode(tooltip=[alt.Tooltip(f"{field}:N") for field in ("name", "when", "lag", "left")])
    rules = alt.Chart(axes.data([{"left": float(level)} for level in _levels(points)]))
    layers: list[Any] = [rules.mark_rule(color=palette.quiet, strokeDash=[2, 4], opacity=0.7).encode(y=y), line]
    if marks:
        scale = alt.Scale(domain=list(_HORIZONS), range=["circle", "diamond"])
        shape = alt.Shape("mark:N", title=None, scale=scale, legend=alt.Legend(symbolFillColor=palette.quiet))
        horizons = alt.Chart(axes.data(marks)).mark_point(filled=True, size=75, opacity=1)
        tooltip = [alt.Tooltip(f"{field}:N") for field in ("name", "when", "mark", "lag")]
        layers.append(horizons.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip))
    return axes.finish(alt.layer(*layers).properties(height=300), palette)


def gate_chart(recurrences: Sequence[ThroughTime], palette: Palette = LIGHT) -> Chart:
    """Draw the mean openness of the gates over time, as last seen; what keeps the state in a line of its own colour."""
    last = {name: profile for name, _, profile in _shown(recurrences) if profile.gates}
    points: list[dict[str, Any]] = [
        {"gate": axes.printable(f"{name}: {gate}"), "time": time, "open": axes.short(values[place])}
        for name, profile in last.items()
        for gate, values in profile.gates.items()
        for place, time in [(place, profile.times[place]) for place in pick(len(values), _POINTS)]
    ]
    gates = list(dict.fromkeys(point["gate"] for point in points))
    longest = max([point["time"] for point in points] + [1])
    chart = alt.Chart(axes.data(points)).mark_line(strokeWidth=1.8, point=longest == 1)
    chart = chart.encode(
        x=alt.X("time:Q", title="time step", scale=alt.Scale(domain=[0, longest], nice=False)),
        y=alt.Y("open:Q", title="mean openness (0 shut, 1 open)", scale=alt.Scale(domain=[0, 1])),
        color=axes.series("gate", _colours(gates, palette), points),
        tooltip=[alt.Tooltip("gate:N"), alt.Tooltip("time:Q"), alt.Tooltip("open:Q", format=".3f")],
    )
    return axes.finish(chart.properties(height=220), palette)


def _shown(recurrences: Sequence[ThroughTime]) -> list[tuple[str, str, LagProfile]]:
    chosen = [recurrences[place] for place in pick(len(recurrences), MOST)]
    return [
        (axes.named(one.name), when, profile)
        for one in chosen
        for when, profile in (("start", one.start), ("end", one.end))
        if profile is not None
    ]


def _thin(profile: LagProfile) -> Iterator[tuple[int, float | None]]:
    for place in pick(len(profile.lags), _POINTS):
        yield profile.lags[place], profile.decades[place]


def _colours(names: Sequence[str], palette: Palette) -> dict[str, str]:
    colours = (palette.accent, palette.lost, palette.good, palette.warn, palette.gained, palette.quiet)
    return {name: colours[place % len(colours)] for place, name in enumerate(dict.fromkeys(names))}


def _when(points: Sequence[dict[str, Any]]) -> Any:
    """Tell the start of training from its end where both are drawn."""
    present = [when for when in _DASHES if any(point["when"] == when for point in points)]
    scale = alt.Scale(domain=present, range=[_DASHES[when] if len(present) > 1 else [1, 0] for when in present])
    return alt.StrokeDash("when:N", title=None, scale=scale, legend=alt.Legend() if len(present) > 1 else None)


def _decades(values: Sequence[float]) -> alt.Scale:
    """At least two decades, so that a gradient that stays looks as if it did."""
    low, high = min([*values, 0.0]), max([*values, 0.0])
    return alt.Scale(domain=[math.floor(min(low, high - 2)), math.ceil(high)], nice=False)


def _levels(points: Sequence[dict[str, Any]]) -> list[int]:
    lowest = min((point["left"] for point in points), default=0.0)
    return [level for level in _HORIZONS.values() if lowest <= level]
