"""DEAD_UNITS: half of the units after some ReLU are silent for every sample."""

from __future__ import annotations

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion, held_back
from graddoctor.terms import Condition

SHARE = 0.5


def dead_units(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect layers in which half of the units give nothing for any sample, at the start, early, or at the end."""
    shares: dict[str, tuple[float, int]] = {}
    for look in seen.moments:
        for a in look.activations:
            if a.dead >= SHARE and a.dead > shares.get(a.module, (0.0, 0))[0]:
                shares[a.module] = (a.dead, look.step)
    if not shares:
        return ()
    ranked = sorted(shares, key=lambda name: (shares[name][1], -shares[name][0]))
    where = tuple(dict.fromkeys(n for name in ranked for n in (name, *feeding(seen, name)) if n))
    worst = max(share for share, _ in shares.values())
    return (
        Suspicion(
            Condition.DEAD_UNITS,
            where,
            {"dead_share": worst, "layers": float(len(shares)), "step": float(shares[ranked[0]][1])},
            decades=held_back(worst),
            at_start=any(step == 0 for _, step in shares.values()),
            sentence=f"{worst:.0%} of the units of a layer give zero for every sample seen.",
        ),
    )


def feeding(seen: Observation, activation: str) -> tuple[str, ...]:
    """The layer whose product an activation module works on: the row of the budget that holds both."""
    for look in seen.probes[:1]:
        if look.budget:
            return next((row.modules for row in look.budget.rows if activation in row.modules), ())
    return ()
