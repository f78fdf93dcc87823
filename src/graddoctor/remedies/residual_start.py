"""A start at which residual branches add nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.reading import Branch, read
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import within
from graddoctor.remedies.starts import Plan, grouped, started


def zero_branches(facts: Facts, only: Collection[str] | None = None) -> Remedy | None:
    """Let every residual branch begin at zero: its last weight, or the gain of the normalization that ends it.

    Without normalizations the other weights of a branch are scaled by L^(-1/(2m-2)), for L branches of m weights, so
    that a step changes the output as much as it would in a single branch (Fixup).

    Source: Zhang et al. 2019; De and Smith 2020; for gains of normalizations Goyal et al. 2017.
    """
    reading = read(facts.recipe, facts.model, facts.batch)
    parameters = dict(facts.model.named_parameters())  # none that is parametrised: a length of zero has no direction
    plan: Plan = {}
    for branch in reading.branches:
        path, _, _ = branch.end.rpartition(".")
        for name in (branch.end, f"{path}.bias"):
            if name in parameters and bool(parameters[name].any()):
                plan[name] = ("constant", 0.0)
    if plan and not reading.normalized:
        plan |= {name: entry for name, entry in _scaled(reading.branches).items() if name in parameters}
    if only is not None:
        plan = {name: entry for name, entry in plan.items() if any(within(name, part) for part in only)}
    return started("zero-initialised branches", grouped(plan), "Zhang et al. 2019; De and Smith 2020", only)


def _scaled(found: Sequence[Branch]) -> Plan:
    shared = Counter(name for branch in found for name in branch.inner)
    return {
        name: ("scaled", len(found) ** (-1 / (2 * len(branch.inner))))
        for branch in found
        for name in branch.inner
        if shared[name] == 1
    }
