"""The zoo: small trainings, sick and sound, with measured truth. The rules are developed on it; test yours with it."""

from __future__ import annotations

from functools import lru_cache

from graddoctor.testing import (
    activation,
    attention,
    batching,
    depth,
    graph,
    initialization,
    initialization_parts,
    loss,
    numeric,
    output,
    precision,
    rate,
    recurrent,
    recurrent_gates,
    recurrent_loops,
    recurrent_settings,
    restraint,
    scale,
    sound,
    sound_depth,
    sound_recurrent,
    sound_settings,
)
from graddoctor.testing._assert import assert_trainable
from graddoctor.testing._patient import Patient

__all__ = ["Patient", "assert_trainable", "names", "patient", "zoo"]

_FAMILIES = (
    initialization,
    initialization_parts,
    activation,
    attention,
    scale,
    output,
    rate,
    restraint,
    loss,
    precision,
    graph,
    batching,
    depth,
    numeric,
    recurrent,
    recurrent_gates,
    recurrent_loops,
    recurrent_settings,
    sound,
    sound_depth,
    sound_recurrent,
    sound_settings,
)


@lru_cache(maxsize=1)
def _all() -> tuple[Patient, ...]:
    return tuple(one for family in _FAMILIES for one in family.patients())


def zoo(*, kind: str | None = None) -> tuple[Patient, ...]:
    """Return all patients, or those of one kind: ``"sick"``, ``"sound"``, or a family, the first word of its names."""
    if kind in {"sick", "sound"}:
        return tuple(one for one in _all() if one.sick == (kind == "sick"))
    chosen = tuple(one for one in _all() if kind in {None, one.family})
    if not chosen:
        families = sorted({one.family for one in _all()})
        raise ValueError(f"no patients of kind {kind!r}: expected 'sick', 'sound' or one of {families}")
    return chosen


def names() -> tuple[str, ...]:
    """Return the names of all patients."""
    return tuple(one.name for one in _all())


def patient(name: str) -> Patient:
    """Return the patient of this name."""
    for one in _all():
        if one.name == name:
            return one
    raise KeyError(f"no patient {name!r} in the zoo: names() lists them")
