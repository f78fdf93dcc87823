"""Adam's epsilon beside the gradients that it is added to."""

from __future__ import annotations

import math
from collections.abc import Iterable

from graddoctor.observe.readings import ParameterReading


def share_below(parameters: Iterable[ParameterReading], epsilon: float) -> float:
    """Share of the trained entries whose parameter's gradient has a root mean square under ``epsilon``.

    There Adam's step is no longer of the size of its rate. Parameters without a gradient, or with one that is zero
    throughout, are left out; ``nan`` where none is left.

    Source: Wortsman et al. 2023, on large models whose gradients fall under the usual 1e-8.
    """
    below = entries = 0
    for one in parameters:
        count = math.prod(one.shape)
        if one.gradient is not None and one.gradient > 0 and count:
            entries += count
            below += count * (one.gradient / math.sqrt(count) < epsilon)
    return below / entries if entries else math.nan
