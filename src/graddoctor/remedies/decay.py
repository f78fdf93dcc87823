"""Change the weight decay: lift it, lower it, keep it off biases, add it."""

from __future__ import annotations

import torch

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.steps import decay_is_decoupled, decay_weights_only, scale_decay, set_options
from graddoctor.remedies.rates import changed, rates
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

_LOWERED = 0.1
_COUPLED, _DECOUPLED = 1e-4, 1e-2


def decay_lifted(facts: Facts) -> Remedy | None:
    """No weight decay; ``None`` where there is none."""
    return no_weight_decay() if _decayed(facts.optimizer) else None


def decay_lowered(facts: Facts) -> Remedy | None:
    """A tenth of the weight decay; ``None`` where there is none."""
    if not _decayed(facts.optimizer):
        return None
    edit = Edit("optimizer", scale_decay, {"factor": _LOWERED})
    return Remedy.written(f"weight decay x {_LOWERED:g}", (Cause.WEIGHT_DECAY,), [edit])


def decay_off_biases(facts: Facts) -> Remedy | None:
    """Keep the weight decay off biases, slopes and the parameters of normalizations.

    ``None`` where none of them decays, or where the schedule is made for just the groups that there are.

    Source: He et al. 2019 (bag of tricks), section 3.1.
    """
    edit = Edit("optimizer", decay_weights_only)
    pulled = _pulled(facts.optimizer)
    if _pulled(changed(facts, [edit])) == pulled or (rates(facts) is not None and rates(facts, [edit]) is None):
        return None
    return Remedy.written("weight decay on weights only", (Cause.WEIGHT_DECAY,), [edit], source="He et al. 2019")


def decay_added(facts: Facts) -> Remedy | None:
    """Customary weight decay against weights that grow, 1e-4 or 1e-2 where it is decoupled, on weights only.

    ``None`` where there is some already, or no option for it.

    Source: Krogh and Hertz 1991; Loshchilov and Hutter 2019 for the decoupled one.
    """
    optimizer = facts.optimizer
    if _decayed(optimizer) or not all("weight_decay" in group for group in optimizer.param_groups):
        return None
    decay = _DECOUPLED if decay_is_decoupled(optimizer) else _COUPLED
    edits = [Edit("optimizer", set_options, {"weight_decay": decay}), Edit("optimizer", decay_weights_only)]
    if rates(facts, edits) is None:
        edits = edits[:1]
    source = "Krogh and Hertz 1991" if decay == _COUPLED else "Loshchilov and Hutter 2019"
    return Remedy.written(f"weight decay {decay:g}", (Cause.WEIGHT_DECAY,), edits, source=source)


def no_weight_decay() -> Remedy:
    """No weight decay in any parameter group."""
    edit = Edit("optimizer", scale_decay, {"factor": 0.0})
    return Remedy.written("weight decay lifted", (Cause.WEIGHT_DECAY,), [edit])


def _decayed(optimizer: torch.optim.Optimizer) -> bool:
    return any(group.get("weight_decay") for group in optimizer.param_groups)


def _pulled(optimizer: torch.optim.Optimizer) -> int:
    """How many parameters decay."""
    return sum(len(group["params"]) for group in optimizer.param_groups if group.get("weight_decay"))
