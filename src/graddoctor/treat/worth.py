"""What a run is worth: the share of the gap that it closes, in the training loss and in the user's metric alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graddoctor.prove.task import Result

_NOTHING = 1e-3
"""Where nobody gains as much as this in a measure, that measure says nothing."""


def worth_of(results: Sequence[Result], base: Result) -> list[float]:
    """Judge runs by how much of the best one's gain over the given recipe each of them has.

    Where the recipe has a metric, a run is worth the smaller of its shares in progress and in the metric: a loss that
    falls while the metric does not follows noise, and a metric that rises while the loss does not leaves the cause.

    Parameters
    ----------
    base
        The recipe as given. A measure that it lost counts as the worst that was seen.

    Returns
    -------
    One number a run: 1 for one that is the best in both, 0 for one that gains nothing, minus infinity for a lost one.
    """
    shares = [_shares([r.progress for r in results], base.progress)]
    if base.metric is not None:
        shares.append(_shares([math.nan if r.metric is None else r.metric for r in results], base.metric))
    known = [measure for measure in shares if measure is not None]
    return [-math.inf if r.lost else _least([m[k] for m in known]) for k, r in enumerate(results)]


def _least(shares: Sequence[float]) -> float:
    """The smallest share; one that is no number says that there is nothing to compare."""
    return min(shares, default=0.0) if all(map(math.isfinite, shares)) else -math.inf


def _shares(values: Sequence[float], base: float) -> list[float] | None:
    """Gain of each as a share of the largest gain; ``None`` where nobody gains or loses anything to speak of."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    start = base if math.isfinite(base) else min(finite)
    largest = max(finite) - start
    if largest <= _NOTHING:
        return None if start - min(finite) <= _NOTHING else [(v - start) / (start - min(finite)) for v in values]
    return [(value - start) / largest for value in values]
