"""Normalizations inside of recurrent layers, in each step."""

from __future__ import annotations

from typing import Any

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.normalised_cells import normalise_cells
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.steps import LAYERS
from graddoctor.terms import Cause
from graddoctor.train import build_model

_SLOW = "steps that are unrolled one by one"


def normalised_cell(facts: Facts) -> Remedy | None:
    """Normalise the sums of each gate, in each step of the recurrent layers, and the memory of an LSTM as it is read.

    Returns
    -------
    ``None`` where no layer of `nn.RNN`, `nn.LSTM` or `nn.GRU` is called and trained; nor for those of two directions,
    with projections, with packed sequences, or with a forward that was exchanged already.

    Source: Ba, Kiros and Hinton 2016.
    """
    names = tuple(one.name for one in facts.carriers if _can_be_normalised(facts, one))
    if not names:
        return None
    edit = Edit("model", normalise_cells, {"names": names})
    before, after = (sum(p.numel() for p in m.parameters()) for m in (facts.model, build_model(edit(facts.recipe))))
    return Remedy.written(
        f"LayerNorm in {len(names)} recurrent layer{'s' * (len(names) > 1)}",
        (Cause.NORMALIZATION,),
        [edit],
        source="Ba et al. 2016",
        modules=names,
        cost=f"{after - before} parameters, {_SLOW}",
    )


def _can_be_normalised(facts: Facts, one: Carrier) -> bool:
    if one.kind not in LAYERS or not one.steps or one.packed:
        return False
    module: Any = facts.model.get_submodule(one.name)
    return not ("forward" in vars(module) or module.bidirectional or module.proj_size)
