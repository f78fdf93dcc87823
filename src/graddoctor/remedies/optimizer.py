"""Change how far and in which direction a step goes: rate, momentum, epsilon, the update rule."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

import torch

from graddoctor.observe.epsilon import share_below
from graddoctor.observe.probe import probe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.steps import (
    equalise_rates,
    hold_everything,
    lower_epsilon,
    lower_momentum,
    replace_optimizer,
    scale_rate,
    scale_steps,
    set_options,
)
from graddoctor.remedies.rates import derived, rates
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import loss_of

ORDINARY_MOMENTUM = 0.9
ORDINARY_EPSILON = 1e-8

HIGH_MOMENTUM = 0.97
"""Momentum above which it is lowered: steps go on for more than thirty others."""

LOUD_EPSILON = 1e-6
"""Epsilon above which it is lowered: it stands beside the gradient's own root mean square."""

_MOST_DROWNED = 0.5  # share of the entries whose gradient is under epsilon

_CUSTOMARY: tuple[tuple[str, type[torch.optim.Optimizer], float, dict[str, Any], str], ...] = (
    ("Adam", torch.optim.Adam, 1e-3, {}, "Kingma and Ba 2015"),
    ("AdamW", torch.optim.AdamW, 1e-3, {}, "Loshchilov and Hutter 2019"),
    ("RMSprop", torch.optim.RMSprop, 1e-3, {}, "Tieleman and Hinton 2012"),
    (
        "SGD with Nesterov momentum",
        torch.optim.SGD,
        1e-2,
        {"momentum": ORDINARY_MOMENTUM, "nesterov": True},
        "Sutskever et al. 2013",
    ),
    ("Adagrad", torch.optim.Adagrad, 1e-2, {}, "Duchi et al. 2011"),
)
_MEMORY = {"RMSprop": 1, "Adagrad": 1, "SGD with Nesterov momentum": 1}  # numbers kept for each parameter; else 2
_HELD = "every trainable parameter in the optimizer"
_UNSUITED = "No schedule: yours set rates of its own, for the optimizer that was."


def rate(facts: Facts, factor: float) -> Remedy:
    """Multiply the rate of every parameter group.

    Where the schedule starts from the optimizer's own rate, that rate is changed; where it overwrites it, the rate is
    scaled for the time of each step.

    Source: Smith 2015 on how rates are searched.
    """
    name = f"learning rate x {factor:g}"
    return Remedy.written(name, (Cause.LEARNING_RATE,), [_rate_edit(facts, factor)], source="Smith 2015", rate=factor)


def one_rate(facts: Facts) -> Remedy | None:
    """Give every parameter group the highest rate of them all; ``None`` where they are the same."""
    edit = Edit("optimizer", equalise_rates)
    before, after = rates(facts), rates(facts, [edit])
    if before is None or after is None or before == after or max(map(max, before)) < max(map(max, after)):
        return None
    return Remedy.written("the same rate for every group", (Cause.LEARNING_RATE,), [edit])


def momentum(facts: Facts) -> Remedy | None:
    """Momentum 0.9: for plain SGD, at a tenth of the rate so that steps add up to the same, or where it is above 0.97.

    Source: Polyak 1964.
    """
    groups = facts.optimizer.param_groups
    if any(max(group.get("momentum", 0), *group.get("betas", [0])[:1]) > HIGH_MOMENTUM for group in groups):
        return ordinary_momentum() if _stays(facts, ordinary_momentum().edits[0]) else None
    edit = Edit("optimizer", set_options, {"momentum": ORDINARY_MOMENTUM})
    plain = isinstance(facts.optimizer, torch.optim.SGD) and not any(group["momentum"] for group in groups)
    if not plain or not _stays(facts, edit):
        return None
    edits = [edit, _rate_edit(facts, 1 - ORDINARY_MOMENTUM)]
    return Remedy.written("momentum 0.9", (Cause.OPTIMIZER,), edits, source="Polyak 1964", cost=_memory(1))


def epsilon(facts: Facts) -> Remedy | None:
    """Lower an epsilon above 1e-6 to 1e-8, or one that is above most gradients to a thousandth of these.

    Source: Kingma and Ba 2015; Wortsman et al. 2023 on gradients under the usual epsilon.
    """
    values = [value for group in facts.optimizer.param_groups if isinstance(value := group.get("eps"), float)]
    highest = max(values, default=0.0)
    if highest > LOUD_EPSILON:
        return ordinary_epsilon()
    drowned = _drowned(facts, highest) if highest > 0 else None
    return None if drowned is None else ordinary_epsilon(drowned)


def _drowned(facts: Facts, highest: float) -> float | None:
    """A thousandth, as a power of ten, of the median gradient where that of most entries is under an epsilon."""
    try:
        look = probe(facts.model, lambda model, batch: loss_of(facts.recipe, model, batch), [facts.batch])
    except Exception:  # noqa: BLE001 - what cannot be looked at has no small gradient that is known
        return None
    sizes = [p.gradient / math.sqrt(math.prod(p.shape)) for p in look.parameters if p.gradient]
    if not sizes or not share_below(look.parameters, highest) > _MOST_DROWNED:
        return None
    return 10.0 ** math.floor(math.log10(median(sizes)) - 3)


def optimizers(facts: Facts) -> list[Remedy]:
    """Other update rules at their customary rates: Adam, AdamW, RMSprop, SGD with Nesterov momentum, Adagrad.

    Parameter groups stay, with rates in the same proportion. The schedule stays where it starts from the optimizer's
    rate and goes where it sets rates of its own, which suit another update rule. Hooks on the given optimizer would be
    lost: then there is none.
    """
    given = facts.optimizer
    if given._optimizer_step_pre_hooks or given._optimizer_step_post_hooks:  # noqa: SLF001 - no public way to ask
        return []
    found, follows = [], derived(facts)
    for name, kind, lr, options, source in _CUSTOMARY:
        if type(given) is kind:
            continue
        edits = [Edit("optimizer", replace_optimizer, {"kind": kind, "lr": lr, **options})]
        if not follows or rates(facts, edits) is None:
            edits.append(Edit("scheduler", note=_UNSUITED))
        cost = _memory(_MEMORY.get(name, 2))
        found.append(Remedy.written(f"{name} at {lr:g}", (Cause.OPTIMIZER,), edits, source=source, cost=cost))
    return found


def held(facts: Facts) -> Remedy | None:
    """Give the optimizer the trainable parameters that it was not given; ``None`` where it has them all."""
    mine = {id(p) for group in facts.optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in facts.model.named_parameters() if p.requires_grad and id(p) not in mine]
    if not missing:
        return None
    modules = tuple(dict.fromkeys(name.rpartition(".")[0] for name in missing))
    return Remedy.written(_HELD, (Cause.GRAPH,), [Edit("optimizer", hold_everything)], modules=modules)


def learning_rate(factor: float) -> Remedy:
    """Multiply the rate of every group for the time of each step, whatever the schedule is: for experiments.

    Between steps the groups hold the rates that they would have without it. Two such changes multiply.

    Source: Smith 2015 on how rates are searched.
    """
    edit = Edit("optimizer", scale_steps, {"factor": factor})
    return Remedy.written(
        f"learning rate x {factor:g}", (Cause.LEARNING_RATE,), [edit], source="Smith 2015", rate=factor
    )


def equal_rates(spread: float) -> Remedy:
    """Give every parameter group the highest rate of them all; ``spread`` is how far they are apart, as a factor."""
    edit = Edit("optimizer", equalise_rates)
    return Remedy.written("the same rate for every group", (Cause.LEARNING_RATE,), [edit], rate=spread)


def ordinary_momentum() -> Remedy:
    """Momentum 0.9, or Adam's first beta 0.9, where it is higher.

    Source: Polyak 1964.
    """
    edit = Edit("optimizer", lower_momentum, {"highest": ORDINARY_MOMENTUM})
    return Remedy.written("momentum 0.9", (Cause.MOMENTUM,), [edit], source="Polyak 1964")


def ordinary_epsilon(highest: float = ORDINARY_EPSILON) -> Remedy:
    """Adam's epsilon at 1e-8 where it is larger: an epsilon above the gradient's own scale swallows the step.

    Source: Kingma and Ba 2015.
    """
    edit = Edit("optimizer", lower_epsilon, {"highest": highest})
    name = f"epsilon 1e{round(math.log10(highest))}"
    return Remedy.written(name, (Cause.OPTIMIZER,), [edit], source="Kingma and Ba 2015")


def every_parameter() -> Remedy:
    """Give the optimizer the trainable parameters that it was not given."""
    return Remedy.written(_HELD, (Cause.GRAPH,), [Edit("optimizer", hold_everything)])


def adam(lr: float = 1e-3) -> Remedy:
    """Adam in place of the optimizer, on the same parameters, all at one rate and without a schedule.

    Source: Kingma and Ba 2015.
    """
    edits = [
        Edit("optimizer", equalise_rates),
        Edit("optimizer", replace_optimizer, {"kind": torch.optim.Adam, "lr": lr}),
        Edit("scheduler"),
    ]
    return Remedy.written(f"Adam at {lr:g}", (Cause.OPTIMIZER,), edits, source="Kingma and Ba 2015")


def _rate_edit(facts: Facts, factor: float) -> Edit:
    factor = float(f"{factor:.12g}")
    note = "The schedule sets rates of its own: what it sets is scaled."
    if derived(facts):
        return Edit("optimizer", scale_rate, {"factor": factor})
    return Edit("optimizer", scale_steps, {"factor": factor}, note)


def _stays(facts: Facts, edit: Edit) -> bool:
    """Whether momentum stays as an edit sets it: some schedules set it too."""
    option = "momentum" if all("momentum" in group for group in facts.optimizer.param_groups) else "lr"
    seen = rates(facts, [edit], option)
    return seen is not None and (option == "lr" or len(set(seen)) == 1)


def _memory(numbers: int) -> str:
    return f"{numbers} more number{'s' if numbers > 1 else ''} in memory for each parameter"
