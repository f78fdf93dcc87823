"""The pictures of a cure, one function each: as given is drawn quietly, as treated in the accent's colour."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from graddoctor.show import _axes as axes
from graddoctor.show import cure_words as told
from graddoctor.show import words
from graddoctor.show._axes import Chart
from graddoctor.show.charts import budget_colour, budget_panel, waterfall_bars
from graddoctor.show.cure import Curves, Evidence, PairedOutcome, Race
from graddoctor.show.palette import LIGHT, Palette
from graddoctor.show.report import LossCurve, Waterfall
from graddoctor.show.thin import pair_name, pair_rows

ROWS = 60
"""Rows of the picture of two budgets; smaller ones beyond are folded together."""

_ROW = 26  # pixels that a seed takes
_LINE = 17  # pixels that a candidate takes
_LABEL = 30  # characters of a candidate's name
_DECADE = 2.0  # losses that span less are drawn on an even axis


# --- budgets and losses ----------------------------------------------------------------------------------------------


def budgets_chart(before: Waterfall, after: Waterfall, palette: Palette = LIGHT) -> Chart:
    """Draw two waterfalls side by side, row beside row, on one scale of decades."""
    pairs = pair_rows(before.rows, after.rows, ROWS)[::-1]
    names = _apart([pair_name(pair) for pair in pairs])
    given = waterfall_bars([(name, one) for name, (one, _) in zip(names, pairs, strict=True)], before)
    treated = waterfall_bars([(name, other) for name, (_, other) in zip(names, pairs, strict=True)], after)
    edges = [bar[end] for bar in (*given, *treated) for end in ("from", "to") if end in bar]
    domain = min([0.0, *edges]), max([0.0, *edges])
    colour = budget_colour([*given, *treated], palette)
    left = budget_panel(given, colour, domain=domain).properties(width=320, title=_total(told.GIVEN, before))
    right = budget_panel(treated, colour, domain=domain, labels=False)
    right = right.properties(width=320, title=_total(told.TREATED, after))
    return axes.finish(alt.hconcat(left, right, spacing=24), palette)


def _apart(names: Sequence[str]) -> list[str]:
    """Tell equal names (``"12 smaller rows"``) apart by blanks behind them, which nobody sees."""
    return [name + " " * names[:place].count(name) for place, name in enumerate(names)]


def _total(side: str, waterfall: Waterfall) -> str:
    if waterfall.cut is not None:
        return f"{side}: ends at {axes.named(waterfall.cut)}"
    return f"{side}: {words.minus(words.signed(waterfall.total, 1))} decades"


def curves_chart(curves: Curves, palette: Palette = LIGHT) -> Chart:
    """Draw the loss as given and as treated; a cross marks where one is no longer finite."""
    sides = ((told.GIVEN, curves.before), (told.TREATED, curves.after))
    points = [point for side, curve in sides for point in _points(side, curve)]
    baseline = curves.before.baseline if curves.before.baseline is not None else curves.after.baseline
    level = [] if baseline is None else [{"loss": axes.short(baseline), "series": "constant predictor"}]
    colours = {told.GIVEN: palette.quiet, told.TREATED: palette.accent, "constant predictor": palette.warn}
    colour = axes.series("series", colours, [*points, *level])
    y = axes.loss_y([point["loss"] for point in (*points, *level)], _DECADE)
    last = max((step for _, curve in sides for step in curve.steps), default=1)
    x = axes.plain_step_x([0, last])
    tooltip = [alt.Tooltip("step:Q"), alt.Tooltip("loss:Q"), alt.Tooltip("series:N")]
    lines = alt.Chart(axes.data(points)).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, tooltip=tooltip)
    rule = alt.Chart(axes.data(level)).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    layers = [*([rule.encode(y=y, color=colour, tooltip=tooltip[1:])] if level else []), lines]
    layers += [mark for side, curve in sides for mark in _broken(side, curve, x, last, palette)]
    return axes.finish(alt.layer(*layers).properties(height=300), palette)


def _points(side: str, curve: LossCurve) -> Iterator[dict[str, Any]]:
    for step, value in zip(curve.steps, curve.values, strict=True):
        if value is not None:
            yield {"step": step, "loss": axes.short(value), "series": side}


def _broken(side: str, curve: LossCurve, x: alt.X, last: int, palette: Palette) -> Iterator[alt.Chart]:
    first = curve.first_nonfinite
    if first is None:
        return
    base = alt.Chart(axes.data([{"step": first, "what": f"{side}: not finite from step {first} on"}]))
    base = base.encode(x=x, tooltip=alt.Tooltip("what:N"))
    place = alt.value(10 if side == told.GIVEN else 30)
    yield base.mark_rule(color=palette.bad, strokeWidth=1.3)
    late = 2 * first > last
    text = base.mark_text(color=palette.bad, align="right" if late else "left", dx=-5 if late else 5)
    yield text.encode(text="what:N", y=place)


# --- the proof -------------------------------------------------------------------------------------------------------


def outcomes_chart(proof: Evidence, palette: Palette = LIGHT) -> Chart:
    """Draw a line from the outcome as given to the outcome as treated, one for each seed."""
    names = [_seed(pair) for pair in proof.pairs]
    y = _rows(names)
    ends = [
        {"name": _seed(pair), "side": side, "value": axes.short(value), "told": told.measured(value, proof.measure)}
        for pair in proof.pairs
        for side, value in ((told.GIVEN, pair.before), (told.TREATED, pair.after))
        if math.isfinite(value)
    ]
    links = [
        {"name": _seed(pair), "from": axes.short(pair.before), "to": axes.short(pair.after), "change": _change(pair)}
        for pair in proof.pairs
        if math.isfinite(pair.before) and math.isfinite(pair.after)
    ]
    axis = alt.Axis(format="~%" if proof.measure == "progress" else ".3~g", tickCount=5)
    x = alt.X("value:Q", title=proof.measure, axis=axis, scale=alt.Scale(zero=False, padding=14))
    change = alt.Scale(domain=["up", "down", "same"], range=[palette.good, palette.bad, palette.quiet])
    lines = alt.Chart(axes.data(links)).mark_rule(strokeWidth=3, opacity=0.5)
    dots = alt.Chart(axes.data(ends)).mark_circle(size=90, opacity=1)
    colour = axes.series("side", {told.GIVEN: palette.quiet, told.TREATED: palette.accent}, ends)
    layers = [
        lines.encode(
            x=alt.X("from:Q", title=proof.measure),
            x2="to:Q",
            y=y,
            color=alt.Color("change:N", scale=change, legend=None),
        ),
        dots.encode(x=x, y=y, color=colour, tooltip=[alt.Tooltip(f"{field}:N") for field in ("name", "side", "told")]),
        *_missing(proof, y, palette),
    ]
    chart = alt.layer(*layers).resolve_scale(color="independent")
    return axes.finish(chart.properties(height=_ROW * max(len(names), 1)), palette)


def _missing(proof: Evidence, y: alt.Y, palette: Palette) -> list[alt.Chart]:
    rows = [
        {"name": _seed(pair), "what": f"no number {' and '.join(sides)}"}
        for pair in proof.pairs
        if (sides := [s for s, v in ((told.GIVEN, pair.before), (told.TREATED, pair.after)) if not math.isfinite(v)])
    ]
    text = alt.Chart(axes.data(rows)).mark_text(color=palette.bad, align="right", dx=-4, dy=-9)
    return [text.encode(text="what:N", y=y, x=alt.value("width"))] if rows else []


def difference_chart(proof: Evidence, palette: Palette = LIGHT) -> Chart:
    """Draw the difference under each seed, and their mean with its interval, beside a line at zero."""
    measured = [pair for pair in proof.pairs if math.isfinite(pair.difference)]
    seeds: list[dict[str, Any]] = [
        {
            "name": _seed(pair),
            "what": "one seed",
            "value": axes.short(pair.difference),
            "told": told.gained(pair.difference, proof.measure),
        }
        for pair in measured
    ]
    mean = list(_mean(proof))
    y = _rows([*map(_seed, proof.pairs), *(row["name"] for row in mean)])
    title = f"{told.gain(proof.measure)} (as treated \N{MINUS SIGN} as given)"
    axis = alt.Axis(labelExpr=_SIGNED[proof.measure], tickCount=5)
    x = alt.X("value:Q", title=title, axis=axis, scale=alt.Scale(zero=False, padding=14))
    colour = axes.series("what", {"one seed": palette.quiet, _MEAN: palette.accent}, [*seeds, *mean])
    tooltip = [alt.Tooltip(f"{field}:N") for field in ("name", "told")]
    zero = alt.Chart(axes.data([{"value": 0.0}])).mark_rule(color=palette.ink, strokeWidth=1.3).encode(x=x)
    dots = alt.Chart(axes.data(seeds)).mark_circle(size=80, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)
    layers = [zero, dots]
    if mean:
        base = alt.Chart(axes.data(mean)).encode(y=y, color=colour, tooltip=tooltip)
        layers.append(base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", title=title), x2="high:Q"))
        layers.append(base.mark_point(shape="diamond", size=140, filled=True, opacity=1).encode(x=x))
    rows = len(proof.pairs) + len(mean)
    return axes.finish(alt.layer(*layers).properties(height=_ROW * max(rows, 1)), palette)


_MEAN = "mean and 95 % interval"
_SIGNED = {
    "progress": "datum.value == 0 ? '0' : format(100 * datum.value, '+.3~g')",
    "metric": "datum.value == 0 ? '0' : format(datum.value, '+.3~g')",
}


def _mean(proof: Evidence) -> Iterator[dict[str, Any]]:
    if math.isfinite(proof.mean):
        low, high = (end if math.isfinite(end) else proof.mean for end in (proof.low, proof.high))
        place = {"value": axes.short(proof.mean), "low": axes.short(low), "high": axes.short(high)}
        yield {"name": "mean", "what": _MEAN, **place, "told": told.difference(proof)}


def _seed(pair: PairedOutcome) -> str:
    return f"seed {pair.seed}"


def _change(pair: PairedOutcome) -> str:
    return "up" if pair.after > pair.before else "down" if pair.after < pair.before else "same"


def _rows(names: Sequence[str]) -> alt.Y:
    axis = alt.Axis(ticks=False, domain=False, grid=True, labelPadding=8)
    return alt.Y("name:N", title=None, sort=list(names), scale=alt.Scale(domain=list(names)), axis=axis)


# --- the race --------------------------------------------------------------------------------------------------------


def race_chart(race: Race, limit: int, palette: Palette = LIGHT) -> Chart:
    """Draw a line for each candidate from its first rung to its last, who got furthest on top."""
    runs = told.runs(race)[:limit]
    names = [run.name for run in runs]
    stops = [stop for run in runs for stop in _stops(run, race)]
    links = [link for run in runs for link in _links(run)]
    x, y = _rungs_x(race), _candidates_y(names, winner=bool(race.winner))
    colours = {"winner": palette.good, "kept": palette.accent, "left out": palette.quiet, "lost": palette.bad}
    colour = axes.series("what", colours, [*stops, *links])
    tooltip = [alt.Tooltip(f"{field}:N") for field in ("name", "stage", "steps", "score", "what", "lost")]
    base = alt.Chart(axes.data(stops)).encode(x=x, y=y)
    text = base.mark_text(align="left", dx=9, fontSize=10.5).encode(text="score:N")
    layers = [
        alt.Chart(axes.data(links))
        .mark_rule(opacity=0.6)
        .encode(x=x, x2="to:Q", y=y, color=colour, strokeWidth=_if_won(3, 1.5)),
        text.mark_text(align="left", dx=9, fontSize=10.5, stroke=palette.paper, strokeWidth=5, strokeJoin="round"),
        base.mark_point(filled=True, opacity=1).encode(
            color=colour,
            size=_if_won(130, 60),
            shape=alt.condition("datum.what == 'lost'", alt.value("cross"), alt.value("circle")),
            tooltip=tooltip,
        ),
        text.encode(color=colour),
    ]
    return axes.finish(alt.layer(*layers).properties(height=max(_LINE * len(names), 40)), palette)


def _if_won(value: float, other: float) -> Any:
    return alt.condition("datum.what == 'winner'", alt.value(value), alt.value(other))


def _stops(run: told.Run, race: Race) -> Iterator[dict[str, Any]]:
    last = max(run.entries)
    for place, entry in run.entries.items():
        rung = race.rungs[place]
        what = "lost" if entry.lost else "winner" if run.wins else "kept" if entry.kept else "left out"
        yield {
            "name": axes.printable(run.name),
            "place": place,
            "what": what,
            "score": told.score(entry, race.measure) + (", won" if run.wins and place == last else ""),
            "steps": f"{rung.steps:,}",
            "stage": axes.printable(rung.title),
            "lost": axes.printable(entry.lost),
        }


def _links(run: told.Run) -> Iterator[dict[str, Any]]:
    for early, late in pairwise(sorted(run.entries)):
        what = "winner" if run.wins else "kept"
        yield {"name": axes.printable(run.name), "place": early, "to": late, "what": what}


def _rungs_x(race: Race) -> alt.X:
    stages = [f"{rung.title}\n{rung.steps:,} steps".strip() for rung in race.rungs]
    labels = json.dumps([axes.printable(stage, keep="\n").split("\n") for stage in stages])
    axis = alt.Axis(
        values=list(range(len(stages))),
        labelExpr=f"{labels}[datum.value]",
        orient="top",
        ticks=False,
        domain=False,
        labelPadding=8 + 13 * any("\n" in stage for stage in stages),
        labelLimit=84,
    )
    scale = alt.Scale(domain=[-0.15, len(stages) - 0.35], nice=False, zero=False)
    return alt.X("place:Q", title=None, axis=axis, scale=scale)


def _candidates_y(names: Sequence[str], *, winner: bool) -> alt.Y:
    half = _LABEL // 2
    short = f"slice(datum.label, 0, {half}) + '…' + slice(datum.label, {1 - half})"
    label = f"length(datum.label) > {_LABEL} ? {short} : datum.label"
    first = f"datum.index == 0 && {json.dumps(winner)}"
    axis = alt.Axis(
        labelExpr=label,
        labelLimit=240,
        ticks=False,
        domain=False,
        grid=True,
        labelFontWeight=alt.condition(first, alt.value(700), alt.value(400)),
    )
    order = [axes.printable(name) for name in names]
    return alt.Y("name:N", title=None, sort=order, scale=alt.Scale(domain=order), axis=axis)
