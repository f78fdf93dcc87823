"""How a prediction is told: one place for sentences and numbers, so that all faces agree."""

from __future__ import annotations

import math
from collections.abc import Iterator

from graddoctor.show import words
from graddoctor.show.prediction import Lag, PredictionReport, Reach, Start

_ENDLESS = 1e5  # layers that no network has

PHASES = {
    "ordered": "ordered: gradients vanish with depth, and samples become alike",
    "critical": "critical: at the edge of chaos, where gradients keep their size",
    "chaotic": "chaotic: gradients explode with depth, and small differences grow",
}


def figures(report: PredictionReport) -> Iterator[tuple[str, str]]:
    """Names and values of the numbers, in the order in which they are read."""
    spread = "" if report.scatter is None else f" ± {report.scatter:.2f} between draws of the weights"
    yield "total", f"{words.signed(report.total)} decades from the loss to the first layer{spread}"
    yield "a layer", f"{decades(report.decades_per_layer)} decades over {words.number(report.depth, 'layer')}"
    yield "far out", f"{decades(report.asymptotic)} decades a layer, {chi(report)}"
    yield "phase", PHASES[report.phase]
    if scales(report):
        yield "scales", scales(report)
    yield "reach", reaches(report.reaches)
    if report.initialization is not None:
        yield "critical", start(report.initialization)


def decades(value: float) -> str:
    """Three digits: a thousandth of a decade a layer is a tenth over a hundred."""
    return words.signed(value, 3)


def chi(report: PredictionReport) -> str:
    """χ₁, in letters that every terminal has."""
    return f"chi_1 = {report.chi:.4g}"


def layers(count: float | None) -> str:
    """A number of layers."""
    if count is None:
        return "-"
    return "never" if math.isinf(count) else f"{count:.1f}" if count < 10 else f"{count:.0f}"  # noqa: PLR2004 - tenths of few


def scales(report: PredictionReport) -> str:
    """Tell the depth scales that are known."""
    known = (
        ("squared gradient", report.gradient_scale),
        ("difference of two samples", report.correlation_scale),
        ("length", report.length_scale),
    )
    told = [f"{name} {layers(scale)}" for name, scale in known if scale is not None and scale < _ENDLESS]
    return f"layers for a factor e: {', '.join(told)}" if told else ""


def reaches(found: tuple[Reach, ...]) -> str:
    """Tell how deep so many decades reach."""
    told = [f"{one.decades:g} decade{'' if one.decades == 1 else 's'} after {layers(one.layers)}" for one in found]
    return f"layers from the loss until the gradient has changed: {', '.join(told)}".replace("after never", "never")


def start(found: Start) -> str:
    """Tell an initialization."""
    kind = "" if found.exact else ", not critical but the best known"
    bias = f", biases {found.bias_std:.4g}" if found.bias_std else ", biases 0"
    return f"{found.activation}: weights {found.weight_std:.4g}/sqrt(fan_in){bias}{kind} ({found.source})"


def lag(one: Lag) -> str:
    """Tell a recurrent layer."""
    if math.isnan(one.decades_per_lag):
        return (
            f"{one.name} ({one.cell}): its recurrent weights are no random matrix, so there is no theory of them here"
        )
    gate = f", gates {words.percent(one.carry)} open" if one.carry else ""
    far = "never" if math.isinf(one.horizon) else f"after {one.horizon:.0f} steps"
    lost = f"{decades(one.decades_per_lag)} decades a step back in time{gate}"
    return f"{one.name} ({one.cell}): {lost}; a decade is lost {far}"


def unknown(report: PredictionReport) -> str:
    """Tell which modules have no theory."""
    return f"No theory here for {words.listing(report.unknown, 6)}: the gain is measured on the first batch."
