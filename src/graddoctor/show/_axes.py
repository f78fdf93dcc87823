"""What charts are made of: axes, scales and colours that several of them share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from graddoctor.show.names import trimmed
from graddoctor.show.palette import Palette, config
from graddoctor.show.report import ActivationState, LayerActivation
from graddoctor.show.thin import pick

Chart = alt.Chart | alt.LayerChart | alt.HConcatChart

_TALL = 560  # pixels that a chart of depth may take
_WIDEST = 28  # characters of a name beside an axis
_LARGEST = 307  # power of ten of which five times is still a number
_ORDINARY = 20.0  # outputs beyond this are drawn on a compressed axis
_FEW = 8  # ticks on an axis of steps
_UNEVEN = 2.5  # steps whose longest gap is so many times the mean one are drawn on a compressed axis


def data(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Put rows into the chart itself; undrawable numbers are ``None`` already."""
    return alt.InlineData(values=list(rows))


def short(value: float | None) -> float | None:
    """Four digits are more than a picture shows, and keep its page small."""
    rounded = None if value is None else float(f"{value:.4g}")
    return value if rounded is None or math.isinf(rounded) else rounded  # the largest floats round up to infinity


def named(name: str) -> str:
    """A name as an axis has room for it."""
    return printable(trimmed(name, _WIDEST))


def printable(text: str, keep: str = "") -> str:
    """Text that Vega can take: U+2028 would end a text in its expression language."""
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)


def tail(name: str) -> str:
    """The end of a long name, which tells more than its beginning."""
    return name if len(name) <= _WIDEST else f"…{name[1 - _WIDEST :]}"


def series(
    field: str, colours: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, below: bool = False
) -> alt.Color:
    """Colour by a name; the legend, above the chart or below it, lists the names that occur."""
    present = [name for name in colours if any(row[field] == name for row in rows)]
    scale = alt.Scale(domain=present, range=[colours[name] for name in present])
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=alt.Legend(orient="bottom" if below else "top"))


def depth_axis(names: Sequence[str], *, labels: bool = True) -> alt.Y:
    """One band for each name, from the top down; labels are dropped where there is no room."""
    label = f"length(datum.label) > {_WIDEST} ? '…' + slice(datum.label, {1 - _WIDEST}) : datum.label"
    axis = alt.Axis(labelExpr=label, labelLimit=220, labelOverlap=True, ticks=False, domain=False)
    return alt.Y("name:N", title=None, sort=list(dict.fromkeys(names)), axis=axis if labels else None)


def tall(chart: Any, rows: int, step: int = 18) -> Any:
    """As high as its rows need, within reason."""
    return chart.properties(height=max(min(rows * step, _TALL), 60))


def finish(chart: Any, palette: Palette) -> Chart:
    """Give a chart the look that all share."""
    return chart.configure(**config(palette))  # type: ignore[no-any-return]


def ends(steps: Sequence[int]) -> list[int]:
    """First and last step, apart even if there is one only."""
    return [steps[0], max(steps[-1], steps[0] + 1)] if steps else [0, 1]


def plain_step_x(steps: Sequence[int]) -> alt.X:
    """An even axis of steps from the first to the last."""
    first, last = ends(steps)
    few = list(range(first, last + 1)) if last - first < _FEW else alt.Undefined
    axis = alt.Axis(format="d", tickMinStep=1, tickCount=_FEW, values=few)
    return alt.X("step:Q", title="step", scale=alt.Scale(domain=[first, last], nice=False, zero=False), axis=axis)


def step_x(steps: Sequence[int]) -> alt.X:
    """An axis of steps; compressed towards its end where they were probed in doubling steps."""
    gaps = [late - early for early, late in pairwise(steps)]
    uneven = bool(gaps) and max(gaps) * len(gaps) > _UNEVEN * max(sum(gaps), 1)
    if not uneven:
        return plain_step_x(steps)
    scale = alt.Scale(type="symlog", domain=ends(steps), nice=False, zero=False)
    axis = alt.Axis(values=[steps[i] for i in pick(len(steps), 12)], format="d", labelOverlap=True)
    return alt.X("step:Q", title="step", scale=scale, axis=axis)


def value_x(reach: float) -> alt.X:
    """An axis of outputs, compressed where some are far out."""
    scale = alt.Scale(type="symlog", nice=True) if reach > _ORDINARY else alt.Scale(zero=False)
    return alt.X("value:Q", title="output", scale=scale, axis=alt.Axis(grid=False, format="~g", labelOverlap=True))


def ratio_y(title: str, values: Sequence[float]) -> dict[str, Any]:
    """Scale, axis and title of whole decades around positive values."""
    low, high = math.floor(math.log10(min(values))), min(math.ceil(math.log10(max(values))), _LARGEST)
    every = max((high - low) // 7, 1)
    axis = alt.Axis(format=".0e", values=[10.0**power for power in range(low, high + 1, every)])
    return {"title": title, "axis": axis, "scale": alt.Scale(type="log", domain=[10.0**low, 10.0**high], nice=False)}


def loss_y(values: Sequence[float], span: float = 20) -> alt.Y:
    """Logarithmic when all losses are positive and span more than a decade and a bit."""
    if not values or min(values) <= 0 or max(values) / min(values) <= span:
        axis = alt.Axis(format=".3~g", tickCount=6)
        return alt.Y("loss:Q", title="training loss", scale=alt.Scale(zero=False), axis=axis)
    powers = range(math.floor(math.log10(min(values))), min(math.ceil(math.log10(max(values))), _LARGEST) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in ((1, 2, 5) if len(powers) < 5 else (1,))]  # noqa: PLR2004
    axis = alt.Axis(format=".3~g", values=ticks[:: math.ceil(len(ticks) / 16)])
    return alt.Y("loss:Q", title="training loss (log)", scale=alt.Scale(type="log", nice=False), axis=axis)


def norm_colour(values: Sequence[float]) -> alt.Color:
    """Colour by the log10 of a norm; at least four decades wide, so that small differences look small."""
    high = max(values, default=0.0)
    scale = alt.Scale(scheme="viridis", domain=[min(*values, high - 4), high] if values else [-4, 0])
    return alt.Color("log10:Q", title="log10 of the gradient's norm", scale=scale)


def ridge_y(names: Sequence[str]) -> alt.Y:
    """A base line for each name from the bottom up, on an axis that lets ridges overlap upwards."""
    # json.dumps gives ASCII, and with it a string literal that Vega's expression language reads as such.
    labels = json.dumps([tail(name) for name in names])
    axis = alt.Axis(
        values=pick(len(names), 28), labelExpr=f"{labels}[datum.value]", labelLimit=220, ticks=False, domain=False
    )
    scale = alt.Scale(domain=[-0.2, len(names) + 0.5], nice=False, zero=False)
    return alt.Y("top:Q", title=None, scale=scale, axis=axis)


def ridge(place: int, state: ActivationState) -> Iterator[tuple[float, float]]:
    """The outline of a histogram standing on ``place``: roots of densities, the highest of them 1.4 rows high.

    Roots, because half of what a ReLU puts out is exactly zero, and beside that peak nothing else would be seen.
    """
    widths = [late - early for early, late in pairwise(state.edges)]
    densities = [share / width if width > 0 else 0.0 for share, width in zip(state.shares, widths, strict=True)]
    highest = max(densities) or 1.0
    yield state.edges[0], place
    for edge, density in zip(state.edges, densities, strict=False):
        yield edge, place + 1.4 * math.sqrt(density / highest)
    yield state.edges[-1], place


def states(layer: LayerActivation) -> Iterator[tuple[str, ActivationState]]:
    """What is known of a layer, by when."""
    if layer.start is not None:
        yield "start", layer.start
    if layer.end is not None:
        yield "end", layer.end
