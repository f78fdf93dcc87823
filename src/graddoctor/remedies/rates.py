"""The learning rates that a schedule makes of a (changed) optimizer, run through without training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import torch

from graddoctor.build import build_scheduler
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.steps import scale_rate

_MOST = 4000
_UNKNOWN = 1000  # steps of a run whose length is not known
_ALIKE = 1e-6

Rates = tuple[tuple[float, ...], ...]
"""By turn of the scheduler, the first before any, the rate of each group."""


def rates(facts: Facts, edits: Sequence[Edit] = (), option: str = "lr") -> Rates | None:
    """Run through the recipe's schedule over its optimizer, changed by some edits.

    Parameters
    ----------
    option
        What is read off the groups: the rate, or ``"momentum"``, which some schedules set too.

    Returns
    -------
    The rates at each turn of the scheduler; of one turn without a scheduler. ``None`` where the optimizer or the
    scheduler cannot be built, as a schedule of given groups over others.
    """
    recipe = facts.recipe
    total = facts.steps or _UNKNOWN
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # schedulers want a step of the optimizer before their own
            optimizer = changed(facts, edits)
            scheduler = build_scheduler(recipe, optimizer, total)
            found = [_now(optimizer, option)]
            turns = recipe.epochs if recipe.scheduler_every == "epoch" else total
            waits = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            for _ in range(min(turns, _MOST) - 1 if scheduler else 0):
                scheduler.step(*([1.0] if waits else []))
                found.append(_now(optimizer, option))
    except Exception:  # noqa: BLE001 - users' builders raise what they like
        return None
    return tuple(found)


def changed(facts: Facts, edits: Iterable[Edit]) -> torch.optim.Optimizer:
    """Build the recipe's optimizer and make some edits of it."""
    optimizer = facts.recipe.optimizer(facts.model)
    for edit in edits:
        if edit.part == "optimizer" and edit.function is not None:
            optimizer = edit.function(optimizer, facts.model, **edit.arguments)
    return optimizer


def derived(facts: Facts) -> bool:
    """Whether the schedule starts from the optimizer's rates, so that what multiplies these multiplies all that follow.

    Otherwise it sets rates of its own, wholly (OneCycleLR, CyclicLR) or in part (a least rate above zero).
    """
    if facts.recipe.scheduler is None:
        return True
    given, doubled = rates(facts), rates(facts, [Edit("optimizer", scale_rate, {"factor": 2.0})])
    if given is None or doubled is None or len(given) != len(doubled):
        return False
    pairs = [(a, b) for one, two in zip(given, doubled, strict=True) for a, b in zip(one, two, strict=True)]
    return all(math.isclose(2 * a, b, rel_tol=_ALIKE, abs_tol=1e-30) for a, b in pairs)


def peaks(seen: Rates) -> list[float]:
    """Return the highest of the groups' rates at each turn."""
    return [max(groups) for groups in seen]


def _now(optimizer: torch.optim.Optimizer, option: str) -> tuple[float, ...]:
    return tuple(float(group[option]) for group in optimizer.param_groups)
