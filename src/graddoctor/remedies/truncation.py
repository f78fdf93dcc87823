"""Backpropagation through time that is cut, where gradients explode over many steps."""

from __future__ import annotations

from graddoctor.remedies.clipping import is_heavy
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import longest
from graddoctor.remedies.plain.truncation import TruncatedForward, truncate_backpropagation
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.steps import LAYERS
from graddoctor.terms import Cause

SHORTEST = 40
"""Sequences of fewer steps are not cut."""

VERY_LONG = 400
"""Those of so many are, whatever their gradients do."""

_STRETCHES = 4
_LEAST = 20


def truncated(facts: Facts) -> Remedy | None:
    """Cut the gradient's way back through recurrent layers into four stretches, of twenty steps at least.

    What has to be remembered for longer than half a stretch is not learned: it is for tasks whose lags are short.

    Returns
    -------
    ``None`` where gradients neither have a heavy tail nor explode in sequences of forty steps and more; nor for layers
    of two directions, packed sequences, and cells, whose state only their caller can detach.

    Source: Williams and Peng 1990.
    """
    found = [one for one in facts.carriers if _can_be_cut(facts, one)]
    steps = longest(found)
    if steps < SHORTEST or not (is_heavy(facts) or steps >= VERY_LONG):
        return None
    names, every = tuple(one.name for one in found), max(_LEAST, steps // _STRETCHES)
    edit = Edit("model", truncate_backpropagation, {"names": names, "every": every})
    return Remedy.written(
        f"backpropagation cut every {every} steps",
        (Cause.RECURRENCE,),
        [edit],
        source="Williams and Peng 1990",
        modules=names,
        cost="all that could be learned over longer lags",
    )


def _can_be_cut(facts: Facts, one: Carrier) -> bool:
    module = facts.model.get_submodule(one.name)
    uncut = not isinstance(vars(module).get("forward"), TruncatedForward)
    return one.kind in LAYERS and not one.packed and not getattr(module, "bidirectional", True) and uncut
