"""VANISHING: the gradient at the first layer is less than a thousandth of that at the last hidden one."""

from __future__ import annotations

import math

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.budget import Budget, Row
from graddoctor.observe.probe import Probe
from graddoctor.terms import Condition

DECADES = 3.0
"""Loss between the first layer and the last hidden one, per element (root mean square)."""


def vanishing(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect a gradient, or a signal, that is lost over depth at some probe."""
    looks = [(look, _lost_over_depth(look)) for look in _finite(seen)]
    gone = [(look, decades) for look, decades in looks if decades >= DECADES]
    if not gone:
        return ()
    look, decades = max(gone, key=lambda pair: (pair[0].step == 0, pair[1]))
    assert look.budget is not None  # noqa: S101 - lost() is 0 without a budget
    rows = sorted(hidden_rows(look.budget), key=lambda row: row.decades)
    numbers = {
        "decades_lost": decades,
        "decades_lost_per_layer": decades / max(len(rows), 1),
        "step": float(look.step),
    }
    if look.budget.signal.total is not None:
        numbers["signal_decades"] = look.budget.signal.total
    return (
        Suspicion(
            Condition.VANISHING,
            modules_of(rows),
            numbers,
            decades=decades,
            at_start=look.step == 0,
            sentence=f"The gradient loses {decades:.1f} decades between the last hidden layer and the first.",
        ),
    )


def lost(look: Probe) -> float:
    """Decades of gradient per element lost between the last hidden layer and the first (> 0: lost)."""
    if look.budget is None or look.budget.cut:
        return 0.0
    return -sum(per_element(row) for row in hidden_rows(look.budget))


def _lost_over_depth(look: Probe) -> float:
    """The same without the rows of loops over time, which are told by what happens through time."""
    looped = {name for reading in look.temporal for name in reading.modules}
    if not looped or look.budget is None or look.budget.cut:
        return lost(look)
    rows = hidden_rows(look.budget)
    return -sum(per_element(row) for row in rows if not row.modules or not looped.issuperset(row.modules))


def per_element(row: Row) -> float:
    """Decades of the root mean square across a row."""
    return row.decades + row.size_decades


def hidden_rows(budget: Budget) -> tuple[Row, ...]:
    """Rows before the output layer, which always has the largest gradient of all."""
    return budget.rows[:-1] if len(budget.rows) > 1 else budget.rows


def modules_of(rows: list[Row]) -> tuple[str, ...]:
    """The modules of rows, the one that carries a row's name before its activation."""
    first = [row.modules[0] for row in rows if row.modules]
    rest = [name for row in rows for name in row.modules[1:]]
    return tuple(dict.fromkeys([*first, *rest]))


def _finite(seen: Observation) -> list[Probe]:
    return [look for look in seen.moments if look.budget is not None and math.isfinite(look.loss)]
