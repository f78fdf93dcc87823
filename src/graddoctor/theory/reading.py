"""From the rows of a budget to what they mean for a network that gets deeper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from graddoctor.observe.budget import Budget, Row
from graddoctor.theory.layers import Layer
from graddoctor.theory.stack import PlainStack

_NOTHING = 1e-9  # decades a layer that are rounding


def depth_of(rows: Sequence[Row]) -> int:
    """How many layers or blocks a gradient passes: rows, without one that holds no weight of its own."""
    first = rows[:1]
    bare = first and not any(part.kind in {"weight", "branch", "skip", "path"} for part in first[0].parts)
    return max(len(rows) - bool(bare), 1)


def is_plain(budget: Budget) -> bool:
    """Whether weights and activations take turns, and nothing else."""
    kinds = {part.kind for row in budget.rows for part in row.parts}
    return all(row.kind in {"layer", "other"} for row in budget.rows) and not kinds & {"normalization", "pool"}


def typical(layers: Sequence[Layer]) -> PlainStack | None:
    """The plain stack that most layers make: their commonest activation, the medians of their scales."""
    known = [layer for layer in layers if layer.activation]
    for name, _ in Counter(layer.activation for layer in known).most_common(1):
        alike = [layer for layer in known if layer.activation == name]
        after = layers[layers.index(alike[0]) + 1 :] or alike  # the first layer's inputs are the data
        if alike[0].phi is not None:
            return PlainStack.of(
                alike[0].phi,
                weight_std=median(layer.weight_std for layer in after),
                bias_std=median(layer.bias_std for layer in after),
            )
    return None


def late_slope(rows: Sequence[Row]) -> float:
    """Decades a row in the late half, where the forward pass has come to rest; first and last row left out."""
    inner = [row.decades for row in rows[1:-1]] or [row.decades for row in rows]
    late = inner[len(inner) // 2 :]
    return math.fsum(late) / len(late)


def reach(rows: Sequence[Row], slope: float, decades: float) -> float:
    """Layers, counted from the loss, after which the gradient has changed by so many decades; ``inf``: never.

    Beyond the last row it goes on with ``slope`` a layer.
    """
    passed = 0.0
    for count, row in enumerate(reversed(rows), start=1):
        before, passed = passed, passed + row.decades
        if abs(passed) >= decades:
            step = abs(passed) - abs(before)
            return count - 1 + (decades - abs(before)) / step if step > 0 else float(count)
    if abs(slope) < _NOTHING or not math.isfinite(slope):
        return 0.0 if math.isinf(slope) else math.inf
    turned = passed * slope < 0  # what the rows changed is undone first
    return len(rows) + (decades + (abs(passed) if turned else -abs(passed))) / abs(slope)
