"""What cures it, and what does not: every remedy, on the same network, from the same seed."""

from __future__ import annotations

import altair as alt

from graddoctor.explain.picture import Picture, adjustable, chosen, coloured
from graddoctor.explain.pictures.symptom import curves, loss_axes
from graddoctor.explain.pictures.training import DEPTH, NOTHING, PATIENT, REMEDIES, TRAINING
from graddoctor.lab.table import Table
from graddoctor.show import _axes as axes
from graddoctor.show._axes import Chart
from graddoctor.show.palette import PAGE, SERIES
from graddoctor.show.words import listing, percent

_CONTROLS = (PATIENT, DEPTH)
_MUCH = 0.9  # digits read correctly


def draw(table: Table) -> Chart:
    """Draw a curve of losses for each remedy."""
    x, y = loss_axes()
    colours = dict(zip(REMEDIES, (PAGE.ink, *SERIES), strict=False))
    tips = [alt.Tooltip("remedy:N"), alt.Tooltip("loss:Q", format=".3f")]
    lines = (
        alt.Chart(axes.data(curves(table)))
        .transform_filter(chosen("patient", "depth"))
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, color=coloured("remedy", colours), tooltip=tips)
    )
    return adjustable([lines], _CONTROLS)


def told(table: Table, patient: str, depth: int) -> str:
    """Which remedies make it read the digits, and which do not."""
    here = table.where(patient=patient, depth=depth)
    right = {remedy: float(here.of("accuracy", remedy=remedy)[0]) for remedy in REMEDIES}
    given = right.pop(NOTHING)
    ranked = sorted(right.items(), key=lambda pair: -pair[1])
    well = [f"{name} ({percent(share)})" for name, share in ranked if share >= _MUCH]
    badly = [f"{name} ({percent(share)})" for name, share in ranked if share < _MUCH]
    said = [f"As it is, {percent(given)} of the digits in the test set are read correctly."]
    said += [f"Nine of ten and more with {listing(well, 8)}."] if well else ["Nothing here reaches nine of ten."]
    return " ".join([*said, *([f"Not with {listing(badly, 8)}."] if badly else [])])


CURES = Picture(
    "cures",
    "Remedies, side by side",
    "Training loss on handwritten digits. Every curve is one training from the same seed, at the better of two rates "
    "(SGD with momentum: 0.01 and 0.1; Adam: 0.001 and 0.003); the lab has several seeds of each.",
    TRAINING,
    _CONTROLS,
    draw,
    told,
)
