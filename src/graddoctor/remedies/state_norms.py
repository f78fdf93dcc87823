"""A penalty that keeps the norm of the gradient on its way through time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from graddoctor.randomness import seeded
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import SHORTEST, longest
from graddoctor.remedies.plain.state_norms import change_of_norms, keep_state_gradients, recorded_calls, time_first
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import build_model, loss_of

STRENGTH = 1.0
"""Weight of the penalty; Pascanu, Mikolov and Bengio 2013 take 0.5 to 4."""

KEPT = 0.1
"""Norms are kept where a step changes them by less than this share."""


def state_gradients_kept(facts: Facts) -> Remedy | None:
    """Punish recurrent weights that let the gradient's norm fade or grow from one state to the one before it.

    The gradient of the penalty is added to that of the loss, whose value stays. It can be far larger than that of the
    loss, so the total norm is clipped at 1.

    Returns
    -------
    ``None`` where no `nn.RNN` of one direction is trained on unpacked sequences of eight steps and more, without
    dropout between its layers; nor where a step changes the norm by less than a tenth.

    Source: Pascanu, Mikolov and Bengio 2013, equation 9.
    """
    found = [one for one in facts.carriers if _can_be_punished(facts, one)]
    names = tuple(one.name for one in found)
    if longest(found) < SHORTEST or not _change(facts, names) > KEPT:
        return None
    edits = [
        Edit("loss", keep_state_gradients, {"names": names, "strength": STRENGTH}),
        Edit("clip", torch.nn.utils.clip_grad_norm_, {"max_norm": 1.0}, "The penalty's gradient can be huge."),
    ]
    return Remedy.written(
        f"penalty {STRENGTH:g} on gradients that fade or grow over time",
        (Cause.RECURRENCE,),
        edits,
        source="Pascanu et al. 2013",
        modules=names,
        cost="a second pass back through the steps",
    )


def _can_be_punished(facts: Facts, one: Carrier) -> bool:
    if one.kind is not nn.RNN or not one.steps or one.packed:
        return False
    module: Any = facts.model.get_submodule(one.name)
    if "forward" in vars(module) or module.bidirectional or (module.num_layers > 1 and module.dropout):
        return False
    return all(getattr(module, f"weight_hh_l{layer}").requires_grad for layer in range(module.num_layers))


def _change(facts: Facts, names: tuple[str, ...]) -> float:
    """By what share a step changes the gradient's norm, the root of the mean square over steps and layers."""
    net = build_model(facts.recipe)
    with seeded(facts.recipe.seed), torch.enable_grad(), recorded_calls(net, names) as calls:
        loss = loss_of(facts.recipe, net, facts.batch)
        total = float(change_of_norms(loss, calls).detach())
    steps = sum(module.num_layers * (len(time_first(module, given)) - 1) for module, given, *_ in calls)
    return math.sqrt(total / steps) if steps else 0.0
