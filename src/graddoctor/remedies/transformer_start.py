"""Starts that transformers are used to: embeddings of unit length, residual branches scaled by depth."""

from __future__ import annotations

import math
from collections.abc import Collection
from statistics import median

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.reading import read
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import slots, within
from graddoctor.remedies.starts import Plan, grouped, started

_LOUD, _QUIET = 3.0, 0.1  # spreads of an embedding, the second as a share of 1/√width
_FEWEST = 4  # branches: those of two layers of a transformer
_SCALED = 0.9  # a branch whose last weights are smaller than its others by this is scaled already


def unit_embeddings(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Draw embeddings again with a spread of 1/√width, so that each has about unit length.

    ``None`` where all of them spread by something between a tenth of that and 3.

    Source: Huang et al. 2020 (T-Fixup); Radford et al. 2019 use 0.02 for all widths.
    """
    plan: Plan = {}
    for slot in slots(facts.model, read(facts.recipe, facts.model, facts.batch), only):
        if slot.kind == "embedding" and slot.value.shape[-1] > 1:
            spread, usual = float(slot.value.float().square().mean().sqrt()), 1 / math.sqrt(slot.value.shape[-1])
            if not _QUIET * usual <= spread <= _LOUD:
                plan[slot.name] = ("normal", usual)
    return started("embeddings of unit length", grouped(plan), "Huang et al. 2020; Radford et al. 2019", only)


def depth_scaled(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Scale the last weight of every residual branch by 1/√branches: all together add as much as the stream has.

    ``None`` for fewer than four branches, and where their last weights are smaller than the others already.

    Source: Radford et al. 2019.
    """
    reading = read(facts.recipe, facts.model, facts.batch)
    weights = {slot.name: slot for slot in slots(facts.model, reading) if slot.kind == "weight"}
    ends = {branch.end for branch in reading.branches if branch.end in weights}
    inner = {name for branch in reading.branches for name in branch.inner if name in weights} - ends
    if len(ends) < _FEWEST or not inner:
        return None

    def gain(name: str) -> float:
        slot = weights[name]
        return float(slot.value.float().square().mean().sqrt()) * math.sqrt(slot.fan_in)

    if median(map(gain, ends)) < _SCALED * median(map(gain, inner)):
        return None
    factor = 1 / math.sqrt(len(ends))
    plan: Plan = {name: ("scaled", factor) for name in weights if name in ends}
    if only is not None:
        plan = {name: entry for name, entry in plan.items() if any(within(name, part) for part in only)}
    return started("residual branches scaled by depth", grouped(plan), "Radford et al. 2019", only)
