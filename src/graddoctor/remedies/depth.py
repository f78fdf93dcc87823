"""Fewer layers: equal blocks in a row are left out, every other one, or three of four."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graddoctor.remedies.blocks import Block
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.depth import leave_out
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

DEEP = 8
"""So many equal blocks in a row make depth itself a suspect."""

STRIDES = (2, 4)
"""Every second block is kept, or every fourth."""


def deep_blocks(facts: Facts) -> tuple[str, ...]:
    """Name the equal blocks that stand in rows of eight and more, where nothing leads past them."""
    if facts.survey is None or facts.survey.branches:
        return ()
    return tuple(block.name for run in facts.blocks if len(run) >= DEEP for block in run)


def shallower(facts: Facts, stride: int = STRIDES[0]) -> Remedy | None:
    """Keep every second, or every fourth, of the equal blocks in a row, the first among them.

    Parameters
    ----------
    stride
        One in so many is kept.

    Returns
    -------
    ``None`` where fewer than eight equal blocks stand in a row.

    Source: He et al. 2016: a plain network may train worse than a part of it would.
    """
    left_out = [block for run in facts.blocks if len(run) >= DEEP for k, block in enumerate(run) if k % stride]
    if not left_out:
        return None
    total = sum(len(run) for run in facts.blocks if len(run) >= DEEP)
    names = tuple(name for block in left_out for name in block.modules)
    return Remedy.written(
        f"{len(left_out)} of {total} equal blocks left out",
        (Cause.DEPTH,),
        [Edit("model", leave_out, {"names": names})],
        source="He et al. 2016",
        modules=tuple(block.name for block in left_out),
        cost=f"{_parameters(left_out, facts.model):,} parameters fewer",
    )


def fewer_layers(facts: Facts) -> list[Remedy]:
    """Prescribe half of the equal blocks, and a quarter of them."""
    return [remedy for stride in STRIDES if (remedy := shallower(facts, stride)) is not None]


def _parameters(blocks: Sequence[Block], model: nn.Module) -> int:
    names = (name for block in blocks for name in block.modules)
    return sum(p.numel() for name in names for p in model.get_submodule(name).parameters())
