"""What the states of a recurrence were, step by step: how open its gates, how much of it on the flat part of a tanh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from graddoctor.observe._cells import Step

FLAT = 0.1  # of the largest slope: a value with less is on a flat part


def openness(steps: Sequence[Step]) -> dict[str, tuple[float, ...]]:
    """Mean of every gate by step."""
    return {name: read([step.gates[name].mean() for step in steps]) for name in steps[0].gates}


def flat_gates(steps: Sequence[Step]) -> dict[str, tuple[float, ...]]:
    """Share of every gate's values on the flat part of its sigmoid, by step."""
    return {name: read([flat_sigmoid(step.gates[name]) for step in steps]) for name in steps[0].gates}


def saturation(steps: Sequence[Step]) -> tuple[float, ...]:
    """Share of the values behind the state on the flat part of their tanh, by step; `nan` without one."""
    if steps[0].squashed is None:
        return (math.nan,) * len(steps)
    return read([flat_tanh(step.squashed) for step in steps if step.squashed is not None])


def flat_tanh(values: Tensor) -> Tensor:
    """Share of outputs of a tanh where its slope is under a tenth of 1."""
    return (1 - values * values < FLAT).double().mean()


def flat_sigmoid(values: Tensor) -> Tensor:
    """Share of outputs of a sigmoid where its slope is under a tenth of 1/4."""
    return (values * (1 - values) < FLAT / 4).double().mean()


def read(values: Sequence[Tensor]) -> tuple[float, ...]:
    """Bring 0-d tensors to the host, all at once."""
    numbers: list[float] = torch.stack([value.detach() for value in values]).double().tolist()
    return tuple(numbers)
