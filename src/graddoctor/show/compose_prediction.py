"""From a prediction to its report: what theory said, in the form that every face shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graddoctor.show.compose import waterfall
from graddoctor.show.prediction import (
    Lag,
    LayerPoint,
    PhaseDiagram,
    PredictionReport,
    PredictionVerdict,
    Reach,
    Start,
)
from graddoctor.theory import CriticalInit
from graddoctor.theory.diagram import diagram
from graddoctor.theory.layers import Layer
from graddoctor.theory.outlook import LIMIT, Outlook
from graddoctor.theory.stack import PlainStack
from graddoctor.version import __version__

REACHES = (1.0, 3.0, 10.0)
_FAR = 25.0  # a scale beyond this would make the diagram a diagram of itself


def compose_prediction(prediction: Outlook) -> PredictionReport:
    """Make the report of a prediction."""
    return PredictionReport(
        title=prediction.name,
        verdict=_verdict(prediction),
        headline=_headline(prediction),
        total=prediction.total,
        depth=prediction.depth,
        decades_per_layer=prediction.decades_per_layer,
        asymptotic=prediction.asymptotic,
        chi=prediction.chi,
        phase=prediction.phase,
        scatter=_known(prediction.scatter),
        gradient_scale=prediction.gradient_scale,
        length_scale=_known(prediction.length_scale),
        correlation_scale=_known(prediction.correlation_scale),
        reaches=tuple(Reach(decades, prediction.reach(decades)) for decades in REACHES),
        initialization=_start(prediction.initialization),
        plain=prediction.plain,
        budget=waterfall(prediction.budget),
        diagram=_diagram(prediction.stack, prediction.layers),
        recurrent=tuple(Lag(r.name, r.kind, r.decades_per_lag, r.carry, r.horizon()) for r in prediction.recurrent),
        unknown=prediction.unknown,
        environment={"graddoctor": __version__},
        classes=prediction.classes,
    )


def _verdict(prediction: Outlook) -> PredictionVerdict:
    if abs(prediction.total) <= LIMIT:
        return "steady"
    return "vanishing" if prediction.total < 0 else "exploding"


def _headline(prediction: Outlook) -> str:
    layers = "layer" if prediction.depth == 1 else "layers"
    if prediction.budget.cut is not None:
        return f"No gradient gets past {prediction.budget.cut}: what the weights there hand back is exactly zero."
    change = "lose" if prediction.total < 0 else "gain"
    told = f"{prediction.depth} {layers} {change} {abs(prediction.total):.1f} decades of gradient before the first step"
    if prediction.phase == "critical":
        return f"{told}; deeper ones of the kind change little more."
    further = "lose" if prediction.asymptotic < 0 else "gain"
    return f"{told}; deep ones of the kind {further} {abs(prediction.asymptotic):.3f} a layer."


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _start(critical: CriticalInit | None) -> Start | None:
    if critical is None:
        return None
    return Start(critical.activation, critical.weight_std, critical.bias_std, critical.source, critical.exact)


def _diagram(stack: PlainStack | None, layers: Sequence[Layer]) -> PhaseDiagram | None:
    if stack is None or max(stack.weight_std, stack.bias_std) > _FAR:
        return None
    points = [LayerPoint(one.name, one.weight_std, one.bias_std, one.activation) for one in layers]
    if not points:
        points = [LayerPoint("the stack", stack.weight_std, stack.bias_std, stack.activation.name)]
    table = diagram(
        stack.activation,
        weight_std=min(max(point.weight_std for point in points), _FAR),
        bias_std=min(max(point.bias_std for point in points), _FAR),
    )
    return PhaseDiagram(
        activation=stack.activation.name,
        weight_stds=tuple(map(_short, table.weight_stds)),
        bias_stds=tuple(map(_short, table.bias_stds)),
        decades=tuple(tuple(map(_short, row)) for row in table.decades),
        edge_weight_stds=tuple(_short(weight) for weight, _ in table.edge),
        edge_bias_stds=tuple(_short(bias) for _, bias in table.edge),
        points=tuple(points),
    )


def _short(value: float) -> float:
    """Digits that a picture can show."""
    return round(float(value), 4)
