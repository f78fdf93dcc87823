"""Starts of recurrent weights: what is applied to a state again and again has to keep its norm."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import is_shut, longest
from graddoctor.remedies.plain.recurrent import centre_states, open_gates
from graddoctor.remedies.reading import Reading, read
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.slots import slots, within
from graddoctor.remedies.starts import Plan, grouped, plan_of, started

_MIDDLES = {"sigmoid": 0.5, "hardsigmoid": 0.5}
_OFF = 0.1  # a spectral radius is off by more than this
_FAINT = 1e-3  # Le et al. 2015
_SQUARE = 2


def is_recurrent(facts: Facts) -> tuple[str, ...]:
    """Name the modules that carry a state from one time step to the next.

    Of a cell that is written by hand it is the module, or the parameter, that is applied to the state.
    """
    return tuple(one.name for one in facts.carriers)


def recurrence_restarted(facts: Facts) -> Remedy | None:
    """Start what carries a state again: orthogonal recurrent weights, Xavier weights on the inputs, biases at zero.

    Where the state is rectified, the recurrent weights are the identity. Weights on the inputs of a cell without gates
    are no larger than lets the inputs of all steps together fill it. The biases of gates stay. A sigmoid that is
    written by hand gets four times the weights of a tanh, and biases that take the mean of its values, one half, out of
    the sum: then it is a tanh to the gradient.

    Returns
    -------
    ``None`` where nothing carries a state.

    Source: Saxe et al. 2014; for rectifiers Le et al. 2015.
    """
    if not facts.carriers:
        return None
    reading = read(facts.recipe, facts.model, facts.batch)
    parts = _parameters(facts)
    plan = plan_of(slot for slot in slots(facts.model, reading) if slot.name in parts)
    more = centred(facts.model, reading, plan)
    return started(
        "recurrent weights orthogonal", grouped(plan), "Saxe et al. 2014", more=more, modules=is_recurrent(facts)
    )


def identity(facts: Facts) -> Remedy | None:
    """Start rectified recurrences at the identity: a state is kept as it is until something is added (IRNN).

    Weights on the inputs start at a thousandth, biases at zero.

    Returns
    -------
    ``None`` where no recurrence has a ReLU.

    Source: Le et al. 2015.
    """
    modules = [one for one in facts.carriers if _rectified(facts.model, one)]
    parts = _parameters(facts, modules)
    found = slots(facts.model, read(facts.recipe, facts.model, facts.batch))
    plan = plan_of(
        (slot for slot in found if slot.name in parts),
        lambda slot: ("identity", 1.0) if slot.recurrent else ("normal", _FAINT),
    )
    names = tuple(one.name for one in modules)
    return started("identity recurrence (IRNN)", grouped(plan), "Le et al. 2015", modules=names)


def rescaled(facts: Facts) -> Remedy | None:
    """Scale recurrent weights to a spectral radius of one, and leave them as they are otherwise.

    Returns
    -------
    ``None`` where there are none without gates, or none that is off by a tenth.

    Source: Pascanu et al. 2013.
    """
    parts = _parameters(facts, [one for one in facts.carriers if not one.gated])
    found = slots(facts.model, read(facts.recipe, facts.model, facts.batch))
    radii = {slot.name: radius(slot.value) for slot in found if slot.recurrent and slot.name in parts}
    plan: Plan = {name: ("scaled", 1 / size) for name, size in radii.items() if size > 0 and abs(size - 1) > _OFF}
    names = tuple(dict.fromkeys(_owner(facts, name) for name in plan))
    return started("recurrent weights of spectral radius 1", grouped(plan), "Pascanu et al. 2013", modules=names)


def radius(weight: torch.Tensor) -> float:
    """Largest modulus of an eigenvalue; ``nan`` of what is not square."""
    if weight.ndim != _SQUARE or weight.shape[0] != weight.shape[1] or not bool(weight.isfinite().all()):
        return math.nan
    return float(torch.linalg.eigvals(weight.detach().double().cpu()).abs().max())


def recurrent_edits(
    model: nn.Module, reading: Reading, found: Iterable[Carrier], plan: Plan, only: Collection[str] | None = None
) -> tuple[Edit, ...]:
    """What a critical start of a recurrence takes beside a plan: gates that are shut start open, states are centred."""
    shut = [one for one in found if one.gated and is_shut(model.get_submodule(one.name), one.steps)]
    shut = [one for one in shut if only is None or any(within(one.name, part) for part in only)]
    names = tuple(one.name for one in shut)
    opened = (Edit("model", open_gates, {"names": names, "steps": longest(shut)}),) if shut else ()
    return (*opened, *centred(model, reading, plan))


def centred(model: nn.Module, reading: Reading, plan: Mapping[str, Any]) -> tuple[Edit, ...]:
    """Edits by which the mean of a bounded state that is not around zero is taken out by its bias."""
    found: dict[float, dict[str, str]] = {}
    for weight, loop in reading.loops.items():
        middle, module = _MIDDLES.get(loop.activation), model.get_submodule(weight.rpartition(".")[0])
        square = isinstance(module, nn.Linear) and module.in_features == module.out_features
        if middle and square and loop.biases and weight in plan:
            found.setdefault(middle, {})[loop.biases[0]] = weight
    return tuple(Edit("model", centre_states, {"pairs": pairs, "middle": m}) for m, pairs in found.items())


def _parameters(facts: Facts, some: Iterable[Carrier] | None = None) -> frozenset[str]:
    """Names of the parameters of what carries a state, and of what feeds it in the same sum."""
    names: set[str] = set()
    for one in facts.carriers if some is None else some:
        if one.loop is None:
            names |= {
                f"{one.name}.{short}".lstrip(".") for short, _ in facts.model.get_submodule(one.name).named_parameters()
            }
        else:
            names |= {one.loop.weight, *one.loop.inputs, *one.loop.biases}
    return frozenset(names)


def _owner(facts: Facts, parameter: str) -> str:
    return next(one.name for one in facts.carriers if within(parameter, one.name))


def _rectified(model: nn.Module, one: Carrier) -> bool:
    if one.loop is not None:
        return one.loop.activation == "relu" and math.isfinite(radius(model.get_parameter(one.loop.weight)))
    return one.vanilla and getattr(model.get_submodule(one.name), "nonlinearity", "") == "relu"


RECURRENT_STARTS = (recurrence_restarted, identity, rescaled)
"""Starts of what carries a state, in the order in which they are tried."""
