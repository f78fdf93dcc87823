"""A picture that answers to sliders: what is run for it, what can be set, how it is drawn and what it says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from graddoctor.lab.table import Arm, Measured, Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE, SERIES

HEIGHT = 300
_NARROW = 45  # letters that a telephone has room for
_ZERO = "datum.value == 0 ? '0' : datum.label"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Study:
    """What is run: once for all pictures that show it.

    Attributes
    ----------
    name
        What progress calls it.
    measure
        ``(seed, **arm) -> `` what one run gives.
    arms
        What is run.
    """

    name: str
    measure: Callable[..., Measured]
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Control:
    """Something that can be set.

    Attributes
    ----------
    name, label
        The parameter of the chart, and what a reader sees.
    values
        What it can be set to; names make a list to choose from, numbers a slider.
    start
        What it is set to at first.
    unit
        What numbers are counted in.
    """

    name: str
    label: str
    values: tuple[Any, ...]
    start: Any
    unit: str = ""

    @property
    def is_list(self) -> bool:
        """Whether it is chosen from a list."""
        return isinstance(self.values[0], str)

    def said(self, value: Any) -> str:
        """A value with its unit."""
        return f"{value} {self.unit}".strip()


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes
    ----------
    name, title, caption
        What the text calls it, what it is headed by, and how it is read.
    study
        What is run for it.
    controls
        What can be set.
    draw
        ``(table) -> `` the chart; its parameters are the controls.
    told
        ``(table, **setting) -> `` what the picture shows at a setting, in a sentence.
    """

    name: str
    title: str
    caption: str
    study: Study
    controls: tuple[Control, ...]
    draw: Callable[[Table], Chart]
    told: Callable[..., str]

    def settings(self) -> Iterator[dict[str, Any]]:
        """Every setting, in the order of the controls."""
        names = [control.name for control in self.controls]
        for values in itertools.product(*(control.values for control in self.controls)):
            yield dict(zip(names, values, strict=True))


def adjustable(layers: Sequence[Any], controls: tuple[Control, ...]) -> Chart:
    """Lay layers over one another, with a parameter for each control, in the size and the look of the page."""
    parameters = [alt.param(name=control.name, value=control.start) for control in controls]
    return axes.finish(alt.LayerChart(layer=[*layers], height=HEIGHT).add_params(*parameters), PAGE)


def chosen(*names: str) -> str:
    """The rows of the setting, as a filter of Vega-Lite; rows hold what they belong to under the controls' names."""
    return " && ".join(f"datum.{name} == {name}" for name in names)


def coloured(field: str, names: Mapping[str, str] | tuple[str, ...]) -> alt.Color:
    """Colour by a name, in a fixed order, so that colours stay when the setting changes."""
    colours = dict(names) if isinstance(names, Mapping) else dict(zip(names, SERIES, strict=False))
    scale = alt.Scale(domain=[*colours], range=[*colours.values()])
    columns = 5 if sum(map(len, colours)) < _NARROW else 2
    legend = alt.Legend(orient="top", columns=columns, labelLimit=220)
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=legend)


def decades_y(field: str, title: str, low: float, high: float, *, format: str = "+d") -> alt.Y:  # noqa: A002 - as Altair has it
    """An axis in decades that stays when the setting changes; what lies beyond is cut off."""
    scale = alt.Scale(domain=[low, high], clamp=False, nice=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format=format, tickCount=8, labelExpr=_ZERO))


def depth_x(field: str, title: str) -> alt.X:
    """An axis of layers, from the first one shown to the last."""
    scale = alt.Scale(zero=False, nice=False)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format="d", tickMinStep=1))


def ruled(at: float = 0.0) -> Any:
    """A quiet line where nothing is lost and nothing gained."""
    return alt.Chart(axes.data([{"at": at}])).mark_rule(color=PAGE.quiet, strokeWidth=1).encode(y="at:Q")


def finite(value: float, digits: int = 3) -> float | None:
    """A number as a picture needs it; nothing where it is none."""
    return round(float(value), digits) if math.isfinite(value) else None
