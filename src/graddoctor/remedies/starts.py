"""Plans of a start: for each parameter what is drawn and at which scale."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.plain.weights import expand_names, initialise
from graddoctor.remedies.reading import Reading
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import Slot
from graddoctor.terms import Cause
from graddoctor.theory.criticality import gain

Entry = tuple[str, float] | tuple[str, float, int]
Plan = dict[str, Entry]
"""What `graddoctor.remedies.plain.weights.initialise` takes, one name an entry."""

_DIGITS = 5
_FEWEST = 3  # names that a range is written for
_LARGE = 1 << 20  # entries from which on orthogonal and Gaussian draws hardly differ, and only one is cheap
_DEEP = 10
_NEUTRAL = {"bias": 0.0, "gain": 1.0, "running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


@lru_cache(maxsize=256)
def target(follower: str) -> tuple[float, float]:
    """Return the critical (σ_w, σ_b) for a nonlinearity; σ_w is the standard deviation times √fan_in.

    What meets no nonlinearity, or a normalization, keeps its input's variance: (1, 0).
    """
    try:
        critical = gain(follower)
    except GraddoctorError:
        return 1.0, 0.0
    return critical.weight_std, critical.bias_std


def drawn(slot: Slot, std: float, draw: str = "orthogonal") -> Entry:
    """Return the entry that draws a weight; a large one is not made orthogonal."""
    draw = "normal" if draw == "orthogonal" and slot.value.numel() > _LARGE else draw
    return (draw, std, slot.stacked) if draw == "orthogonal" and slot.stacked > 1 else (draw, std)


def times(entry: Entry, factor: float) -> Entry:
    """Return the same draw at another scale."""
    return (entry[0], entry[1] * factor, entry[2]) if len(entry) > 2 else (entry[0], entry[1] * factor)  # noqa: PLR2004


def critical_entry(slot: Slot) -> Entry:
    """Return how a weight starts at criticality.

    One that is applied to the same state again and again has to keep its norm, whatever nonlinearity stands behind it.
    """
    if slot.identity:
        return "identity", 1.0
    return drawn(slot, target(slot.follower)[0] / math.sqrt(slot.fan_in) * slot.share if slot.std is None else slot.std)


def deep_and_plain(reading: Reading) -> bool:
    """Whether a stack has so many layers, and neither skips nor norms, that a signal's length needs a fixed point."""
    return len(reading.weights) >= _DEEP and not reading.branches and not reading.normalized


def plan_of(
    found: Iterable[Slot], weight: Callable[[Slot], Entry] = critical_entry, *, noisy_biases: bool = False
) -> Plan:
    """Plan a start: weights as asked for, everything else at what is neutral. What is so already is left out.

    The biases of gates stay: what they are decides how long a cell remembers, and nothing about them is neutral.
    Embeddings are drawn with a standard deviation of 1/√width.

    Parameters
    ----------
    noisy_biases
        Draw biases too where the activation has a critical point only with them, as GELU.
    """
    plan: Plan = {}
    for slot in found:
        if slot.kind == "gates":
            continue
        noise = target(slot.follower)[1] if noisy_biases and slot.kind == "bias" else 0.0
        neutral = _NEUTRAL.get(slot.kind, _NEUTRAL.get(slot.name.rpartition(".")[2], 0.0))
        if slot.kind == "weight":
            plan[slot.name] = weight(slot)
        elif slot.kind == "embedding":
            plan[slot.name] = ("normal", 1 / math.sqrt(slot.value.shape[-1]))
        elif noise:
            plan[slot.name] = ("normal", noise)
        elif bool((slot.value != neutral).any()):
            plan[slot.name] = ("constant", neutral)
    return plan


def grouped(plan: Mapping[str, Entry]) -> dict[Any, Entry]:
    """Put names with the same entry together, and numbered ones into ranges, so that a plan reads well."""
    groups: dict[Entry, list[str]] = {}
    for name, (draw, number, *stacked) in plan.items():
        entry: Any = (draw, float(f"{number:.{_DIGITS}g}"), *stacked)
        groups.setdefault(entry, []).append(name)
    short = {entry: ranges(names) for entry, names in groups.items()}
    return {names[0] if len(names) == 1 else tuple(names): entry for entry, names in short.items()}


def ranges(names: Iterable[str]) -> list[str]:
    """Write names that differ in one number only as one: ``"fc{1..3}.bias"``, ``"net.{0..8..2}.bias"``."""
    left, written = list(names), list[str]()
    while left:
        found = max(_ranges_with(left[0], left), key=lambda one: len(expand_names(one)), default="")
        covered = expand_names(found) if found else left[:1]
        written.append(found or left[0])
        left = [name for name in left if name not in covered]
    return written


def _ranges_with(name: str, names: Sequence[str]) -> Iterator[str]:
    """Every range of three or more of the names that begins with this one."""
    for number in re.finditer(r"\d+", name):
        before, after, first = name[: number.start()], name[number.end() :], int(number[0])
        same = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        others = sorted({int(m[1]) for m in map(same.fullmatch, names) if m and int(m[1]) > first})
        if len(others) < _FEWEST - 1:
            continue
        step = others[0] - first
        last = next(n for n in itertools.count(others[0], step) if n + step not in others)
        text = f"{before}{{{first}..{last}{f'..{step}' if step > 1 else ''}}}{after}"
        if len(expand_names(text)) >= _FEWEST and set(expand_names(text)) <= set(names):
            yield text


def started(
    name: str,
    plan: Mapping[Any, Entry],
    source: str,
    only: Collection[str] | None = None,
    *,
    more: Sequence[Edit] = (),
    modules: tuple[str, ...] = (),
) -> Remedy | None:
    """Make a remedy of a plan, and of further edits of the network behind it; ``None`` of nothing."""
    edits = ((Edit("model", initialise, {"plan": dict(plan)}),) if plan else ()) + tuple(more)
    if not edits:
        return None
    where = tuple(only or ())
    name = name if only is None else f"{name}: {', '.join(where)}"
    return Remedy.written(name, (Cause.INITIALIZATION,), edits, source=source, modules=where or modules)
