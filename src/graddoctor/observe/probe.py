"""One exact look at a step: every operation, every activation, every gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from graddoctor.observe.budget import Budget
from graddoctor.observe.readings import (
    ActivationReading,
    InputReading,
    OperationReading,
    OutputReading,
    ParameterReading,
)


@dataclass(frozen=True)
class Probe:
    """What one forward and backward pass shows.

    Attributes
    ----------
    step, loss
        When it was taken, and the loss on the first batch (may be ``nan`` or infinite).
    budget
        Where the gradient goes; ``None`` where no trainable path reaches the loss.
    activations
        Every use of a nonlinearity, in forward order, read on all batches.
    parameters
        In the order of first use, unused ones last.
    inputs
        What the model was handed, and the floating tensors of the batch that it was not.
    output
        What the model returned, if that is one tensor.
    operations
        Every node of the autograd graph, in forward order.
    dtypes
        The floating types that the forward pass produced.
    low_precision_zeros
        Share of zeros among the gradient entries of all parameters.
    trouble
        What could not be seen, a sentence each.
    """

    step: int
    loss: float
    budget: Budget | None
    activations: tuple[ActivationReading, ...] = ()
    parameters: tuple[ParameterReading, ...] = ()
    inputs: tuple[InputReading, ...] = ()
    output: OutputReading | None = None
    operations: tuple[OperationReading, ...] = ()
    dtypes: tuple[str, ...] = ()
    low_precision_zeros: float = 0.0
    trouble: tuple[str, ...] = ()

    def depth_profile(self) -> tuple[tuple[str, float], ...]:
        """Name and log10 norm of the gradient at every cut of the budget, early to late."""
        if self.budget is None:
            return ()
        rows = self.budget.rows
        points = [(row.name, _log10(row.start_norm)) for row in rows]
        return (*points, ("output", _log10(rows[-1].end_norm))) if rows else ()


def _log10(norm: float) -> float:
    if norm == 0:
        return -math.inf
    return math.log10(norm) if math.isfinite(norm) else math.nan


def probe(
    model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batches: Sequence[Any], *, step: int = 0
) -> Probe:
    """Take one exact look (under construction: shapes of the answer only)."""
    del model, loss, batches
    return Probe(step=step, loss=math.nan, budget=None, trouble=("the probe is not built yet",))
