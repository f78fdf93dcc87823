"""DISCONNECTED: a parameter that is meant to be trained and never moves."""

from __future__ import annotations

from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Cause, Condition


def disconnected(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect trainable parameters without a gradient at every probe, and ones that the optimizer was not given."""
    unreached = [name for name in _names(seen) if all(_nothing(seen, k, name) for k in range(len(seen.probes)))]
    if not unreached and not seen.missing:
        return ()
    where = tuple(dict.fromkeys(name.rpartition(".")[0] for name in (*unreached, *seen.missing)))
    parts = []
    if unreached:
        parts.append(f"{len(unreached)} trainable parameters never get a gradient")
    if seen.missing:
        parts.append(f"the optimizer was not given {len(seen.missing)} trainable parameters")
    numbers = {"without_gradient": float(len(unreached)), "not_in_optimizer": float(len(seen.missing))}
    said = f"{' and '.join(parts)}.".capitalize()
    found = Suspicion(Condition.DISCONNECTED, where, numbers, at_start=True, sentence=said, causes=(Cause.GRAPH,))
    return (found,)


def _names(seen: Observation) -> list[str]:
    return [p.name for p in seen.start.parameters if p.trainable]


def _nothing(seen: Observation, k: int, name: str) -> bool:
    reading = next((p for p in seen.probes[k].parameters if p.name == name), None)
    return reading is not None and reading.gradient is None
