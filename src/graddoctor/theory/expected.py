"""The gradient budget that mean-field theory expects of a network as it was initialized, in the rows of the probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.errors import RecipeError
from graddoctor.observe._guard import Guard, undisturbed
from graddoctor.observe._names import Owner
from graddoctor.observe._parameters import used
from graddoctor.observe._recorder import tensors_in
from graddoctor.observe._rows import groups
from graddoctor.observe.budget import Budget, settle
from graddoctor.observe.dominators import chain
from graddoctor.observe.graph import walk
from graddoctor.observe.tape import Tape
from graddoctor.theory.backflow import ExpectedFlow, ExpectedSpreads
from graddoctor.theory.frugal import lighter
from graddoctor.theory.layers import Layer, layers_of
from graddoctor.theory.propagation import propagate_tape


@dataclass(frozen=True)
class Expected:
    """What theory expects.

    Attributes
    ----------
    budget
        Rows as the probe of the same network and batch has them.
    unknown
        Modules (or operators) that theory has nothing to say about; their gains are measured.
    layers
        The network's layers of weights with the nonlinearity that each one feeds.
    samples
        In the batch that was looked at.
    """

    budget: Budget
    unknown: tuple[str, ...]
    layers: tuple[Layer, ...]
    samples: int


def expected(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> Expected:
    """Say how much gradient each row of the budget loses, from the weights' scale and one forward pass.

    Nothing is left changed, and no backward pass is run.

    Parameters
    ----------
    model
        The network, in the mode in which it trains.
    loss
        ``(model, batch) -> 0-d tensor``.
    batch
        One batch; its samples give the length of the inputs and how alike they are.

    Raises
    ------
    RecipeError
        Weights are not finite, the loss depends on no trainable parameter, or no sample flows through a weight.
    """
    with undisturbed(model) as guard, torch.inference_mode(mode=False), torch.enable_grad():
        guard.protect(tensor for _, tensor in tensors_in(batch))
        return _expected(model, loss, batch, guard)


def foreseen(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> Budget | None:
    """Say what theory expects, to be laid beside what is measured; ``None`` where it cannot be told."""
    try:
        return lighter(lambda part: expected(model, loss, part), model, batch).budget
    except Exception:  # noqa: BLE001 - a second opinion must not cost the first one
        return None


def _expected(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any, guard: Guard) -> Expected:
    if not all(bool(t.isfinite().all()) for _, t in tensors_in(batch) if t.is_floating_point()):
        raise RecipeError("the batch holds numbers that are not finite (nan or inf): look at how the data are loaded")
    tape = Tape(model, guard)
    with tape.follow([tensor for _, tensor in tensors_in(batch)], detailed=True) as run:
        value = loss(model, batch)
    if not isinstance(value, Tensor) or value.grad_fn is None:
        raise RecipeError("the loss depends on no trainable parameter: there is no gradient to predict")
    data = {number for number, seen in run.seen.items() if seen.data}
    graph = walk(value, run.module_of, data, used(model.named_parameters()))
    output = [tensor for _, tensor in tensors_in(run.output) if tensor.requires_grad]
    end = run.end if output and all(tensor.dim() > 0 for tensor in output) else None
    run.output = None
    cut = chain(graph, end) if graph is not None else None
    rows = groups(cut) if cut is not None else []
    laws = propagate_tape(tape)
    if graph is None or not rows:
        raise RecipeError(
            "no layer of weights follows another one, so there is nothing that a gradient could lose: "
            "give a network of two layers or more"
        )
    owner = Owner(model)
    flow = ExpectedFlow(graph, tape, laws, rows[-1].late)
    budget = settle(rows, flow, owner, ExpectedSpreads(tape, laws))
    between = {node.number for row in rows for node in (*row.nodes, row.origin) if node is not None}
    unknown = dict.fromkeys(call.module or call.kind for call in laws.unknown if call.number in between)
    layers = layers_of(tape, laws, {node.number: owner(node) for node in graph.nodes}, end)
    return Expected(budget, tuple(unknown), layers, laws.samples)
