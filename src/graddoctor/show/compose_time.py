"""From looks at the gradient through time to their part of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import TemporalReading
from graddoctor.show.report import LagProfile, ThroughTime
from graddoctor.show.thin import pick

_LAGS = 400  # of a long sequence, lags and time steps that a report keeps


def through_time(probes: Sequence[Probe]) -> Iterator[ThroughTime]:
    """Pair the first look through time with the last, reading by reading; nothing where there was none."""
    looks = [look for look in probes if look.temporal]
    if not looks:
        return
    start, end = looks[0], looks[-1]
    last = {one.name: one for one in end.temporal} if end is not start else {}
    for one in start.temporal:
        later = last.get(one.name)
        yield ThroughTime(
            name=one.name,
            module=one.module,
            kind=one.kind,
            source=one.source,
            steps=one.steps,
            start=_profile(one, start.step),
            end=None if later is None else _profile(later, end.step),
        )


def _profile(one: TemporalReading, step: int) -> LagProfile:
    lags, times = pick(len(one.lag_gradient), _LAGS), pick(one.steps, _LAGS)
    first = one.lag_gradient[0] if one.lag_gradient else math.nan
    return LagProfile(
        step=step,
        lags=tuple(lags),
        decades=tuple(_left(one.lag_gradient[lag], first) for lag in lags),
        total=one.decades,
        per_step=one.decades_per_step,
        horizon_1=one.horizon_1,
        horizon_3=one.horizon_3,
        times=tuple(times) if one.gates else (),
        gates={name: tuple(values[time] for time in times) for name, values in one.gates.items() if values},
        notes=one.notes,
    )


def _left(value: float, first: float) -> float | None:
    known = all(math.isfinite(number) and number > 0 for number in (value, first))
    return math.log10(value) - math.log10(first) if known else None
