"""Change when the learning rate is what it is: warm it up, keep it, lower it in the end."""

from __future__ import annotations

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.schedules import cosine as cosine_schedule
from graddoctor.remedies.plain.schedules import warm_up
from graddoctor.remedies.plain.steps import set_options, warm_up_steps
from graddoctor.remedies.rates import derived, peaks, rates
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

WARM_UP = 0.1
"""Share of the steps in which the rate rises."""

_SHORTEST = 20  # steps that leave something to warm up
_LOW = 0.1  # a rate below this share of its peak has fallen, or has not risen yet
_END = 0.9  # a schedule that falls before this share of the steps ends too soon
_RISES_AT = 0.01  # a peak after this share of the steps is one that the rate rises to


def warmed_up(facts: Facts, share: float = WARM_UP) -> Remedy | None:
    """Raise the rate from almost zero within the first steps; ``None`` where the schedule does so already.

    Beside a schedule of the user's own it is a ramp on the steps themselves, as many in a short run as in a long one.

    Source: Goyal et al. 2017; Xiong et al. 2020 on why transformers want it.
    """
    steps = round(share * facts.steps)
    seen = rates(facts)
    if facts.steps < _SHORTEST or seen is None or _rises(peaks(seen)):
        return None
    own = facts.recipe.scheduler is not None
    note = f"The first {steps} of {facts.steps} steps."
    edit = Edit("optimizer", warm_up_steps, {"steps": steps}, note)
    if not own:
        edit = Edit("scheduler", warm_up, {"steps": steps}, note)
    causes = (Cause.LEARNING_RATE, Cause.SCHEDULE)
    return Remedy.written(f"warm-up of {steps} steps", causes, [edit], source="Goyal et al. 2017")


def constant(facts: Facts) -> Remedy | None:
    """Leave the schedule out; ``None`` where there is none, or one that changes no rate."""
    if facts.recipe.scheduler is None:
        return None
    seen = rates(facts)
    return None if seen is not None and len(set(seen)) == 1 else constant_rate()


def cosine(facts: Facts) -> Remedy | None:
    """Lower the rate along half a cosine over the whole run, from its peak.

    ``None`` where the recipe has a schedule that lasts to the end.

    Source: Loshchilov and Hutter 2017.
    """
    seen = rates(facts)
    if seen is None or facts.steps < _SHORTEST:
        return None
    highest = peaks(seen)
    if facts.recipe.scheduler is not None and not _ends_too_soon(highest):
        return None
    note = f"Over all {facts.steps} steps: batches times epochs."
    edits = [Edit("scheduler", cosine_schedule, {"steps": facts.steps}, note)]
    if not derived(facts):  # the rate that the schedule came to is not the optimizer's own
        edits.insert(0, Edit("optimizer", set_options, {"lr": float(f"{max(highest):.6g}")}))
    return Remedy.written("cosine schedule to the end", (Cause.SCHEDULE,), edits, source="Loshchilov and Hutter 2017")


def constant_rate() -> Remedy:
    """No schedule: the rate that the optimizer was built with, throughout."""
    edit = Edit("scheduler", note="No schedule: the rate stays what the optimizer was built with.")
    return Remedy.written("constant learning rate", (Cause.SCHEDULE,), [edit])


def _rises(highest: list[float]) -> bool:
    """Whether rates begin low and come to their peak later."""
    peak = highest.index(max(highest))
    return highest[0] < _LOW * max(highest) and peak > _RISES_AT * len(highest)


def _ends_too_soon(highest: list[float]) -> bool:
    """Whether rates stay low for longer than the last tenth of the run."""
    last = max(k for k, value in enumerate(highest) if value >= _LOW * max(highest))
    return last + 1 < _END * len(highest)
