"""A prediction, ready to be shown: what theory expects before training, as plain frozen data that survives JSON.

Decades are log10 units, negative where gradient is lost. A length in layers that is infinite is told as ``inf``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graddoctor.show.faces import Faces
from graddoctor.show.report import Waterfall

PREDICTION_SCHEMA = 1
"""Version of the JSON form of a prediction; raised when a field changes its meaning or goes away."""

PredictionVerdict = Literal["steady", "vanishing", "exploding"]
PhaseName = Literal["ordered", "critical", "chaotic"]


@dataclass(frozen=True)
class LayerPoint:
    """A layer of weights in the phase diagram: σ_w (std × √fan_in), σ_b, and the activation that it feeds."""

    name: str
    weight_std: float
    bias_std: float
    activation: str = ""


@dataclass(frozen=True)
class PhaseDiagram:
    """Decades a layer of a plain stack over σ_w and σ_b, and the edge of chaos.

    ``decades[i][j]`` belongs to the cell between ``bias_stds[i]``, ``bias_stds[i + 1]`` and ``weight_stds[j]``,
    ``weight_stds[j + 1]``. ``edge_weight_stds`` and ``edge_bias_stds`` are the edge's points, in order.
    """

    activation: str
    weight_stds: tuple[float, ...]
    bias_stds: tuple[float, ...]
    decades: tuple[tuple[float, ...], ...]
    edge_weight_stds: tuple[float, ...] = ()
    edge_bias_stds: tuple[float, ...] = ()
    points: tuple[LayerPoint, ...] = ()


@dataclass(frozen=True)
class Reach:
    """After how many layers, counted from the loss, the gradient has changed by so many decades."""

    decades: float
    layers: float


@dataclass(frozen=True)
class Lag:
    """A recurrent layer: what each step back in time does, and after how many a decade is lost."""

    name: str
    cell: str
    decades_per_lag: float
    carry: float
    horizon: float


@dataclass(frozen=True)
class Start:
    """An initialization: σ_w and σ_b, and where it comes from; ``exact``: it is a critical point."""

    activation: str
    weight_std: float
    bias_std: float
    source: str
    exact: bool


@dataclass(frozen=True)
class PredictionReport(Faces):
    """What theory expects, ready to be shown.

    Attributes
    ----------
    title
        What it is about.
    verdict, headline
        ``"steady"`` (up to three decades), ``"vanishing"`` or ``"exploding"``, and one sentence.
    total, depth, decades_per_layer
        Decades from the loss to the first layer, layers or blocks on the way, and the one over the other.
    asymptotic, chi, phase
        Decades a layer that a deeper network tends to, χ₁ there, and on which side of the edge of chaos that is.
    scatter
        Standard deviation of the total between draws of the weights; ``None`` where not known.
    gradient_scale, length_scale, correlation_scale
        Layers in which the squared gradient, a deviation of the length, and what tells two samples apart change by a
        factor e; ``None`` where there is no theory.
    reaches
        How deep one, three and ten decades reach.
    initialization
        What would put a plain stack of this activation at criticality.
    plain
        Whether it is a plain stack.
    budget
        Row by row.
    diagram
        The phase diagram; ``None`` where there is no activation to draw one for.
    recurrent
        Recurrent layers.
    unknown
        Modules without a theory; their gains are measured.
    """

    title: str
    verdict: PredictionVerdict
    headline: str
    total: float
    depth: int
    decades_per_layer: float
    asymptotic: float
    chi: float
    phase: PhaseName
    scatter: float | None = None
    gradient_scale: float = math.inf
    length_scale: float | None = None
    correlation_scale: float | None = None
    reaches: tuple[Reach, ...] = ()
    initialization: Start | None = None
    plain: bool = True
    budget: Waterfall | None = None
    diagram: PhaseDiagram | None = None
    recurrent: tuple[Lag, ...] = ()
    unknown: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["prediction"] = "prediction"
    schema: int = PREDICTION_SCHEMA

    def report(self) -> PredictionReport:
        """Return itself."""
        return self
