"""One exact look at a step: every operation, every activation, every gradient."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.errors import RecipeError
from graddoctor.observe import temporal
from graddoctor.observe._activations import reading as activation_reading
from graddoctor.observe._flow import Flow, backward
from graddoctor.observe._guard import Guard, undisturbed
from graddoctor.observe._inputs import Column, merge
from graddoctor.observe._names import Owner, Spreads, operation_readings
from graddoctor.observe._parameters import readings as parameter_readings
from graddoctor.observe._parameters import used as trainable_names
from graddoctor.observe._recorder import Pass, Recorder, tensors_in
from graddoctor.observe._rows import Cut, groups
from graddoctor.observe._step import expect_one_number, uncompiled
from graddoctor.observe.attention import AttentionReading
from graddoctor.observe.budget import Budget, projected, settle
from graddoctor.observe.dominators import chain
from graddoctor.observe.graph import Graph, first_weight, in_forward_order, walk
from graddoctor.observe.losses import LossShare, Term, shares, terms
from graddoctor.observe.readings import (
    ActivationReading,
    InputReading,
    OperationReading,
    OutputReading,
    ParameterReading,
    TemporalReading,
)


@dataclass(frozen=True)
class Probe:
    """What one forward and backward pass shows.

    Attributes
    ----------
    step
        When it was taken.
    loss
        The loss on the first batch (may be ``nan`` or infinite).
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
    classes
        Name and class of every module.
    temporal
        The gradient through time, where it was asked for.
    attention
        Every use of an attention, in forward order, read on the first batch.
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
    classes: Mapping[str, str] = field(default_factory=dict)
    temporal: tuple[TemporalReading, ...] = ()
    attention: tuple[AttentionReading, ...] = ()

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
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    *,
    step: int = 0,
    through_time: bool = False,
) -> Probe:
    """Take one exact look at a model: forward and backward on the first batch, forward on the others.

    Nothing is left changed: weights, gradients, buffers, modes, attributes, batches and random states are put back.

    Parameters
    ----------
    model
        The network, in the mode in which it trains.
    loss
        ``(model, batch) -> 0-d tensor``.
    batches
        At least one. The others only add samples to the readings of activations and inputs.
    step
        Number of the training step, kept in the result.
    through_time
        Whether to look at the gradient through time as well (`graddoctor.observe.temporal`), on the first batch.

    Returns
    -------
    Norms are Frobenius norms over whole tensors, taken in float64; decades are log10 units.

    Raises
    ------
    RecipeError
        If there is no batch, or the loss is not a tensor with one element.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> look = probe(model, lambda m, x: m(x).square().mean(), [torch.randn(16, 4)])
    >>> [row.name for row in look.budget.rows]
    ['0', '2']
    """
    if isinstance(batches, Tensor | Mapping):  # one batch by itself: rows or keys would be taken for batches
        raise RecipeError(f"a probe needs a list of batches, got a {type(batches).__name__}: put it into a list")
    if not batches:
        raise RecipeError("a probe needs at least one batch, got none: pass the batches of a training step")
    with undisturbed(model) as guard, uncompiled():
        look = _Look(model, guard)
        for batch in batches:
            guard.protect(tensor for _, tensor in tensors_in(batch))
        look.first(loss, batches[0])
        for batch in batches[1:]:
            look.again(loss, batch)
        found = look.result(step)
    return _with_time(found, model, loss, batches[0]) if through_time else found


def _with_time(found: Probe, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> Probe:
    try:
        return replace(found, temporal=temporal.through_time(model, loss, batch))
    except RecipeError:
        raise
    except Exception as problem:  # noqa: BLE001 - a further look must not cost the first one
        told = f"the gradient through time could not be looked at: {str(problem).partition(chr(10))[0]}"
        return replace(found, trouble=(*found.trouble, told))


def attentions(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> tuple[AttentionReading, ...]:
    """Read every attention of one forward pass, and nothing else; what is changed is put back, as `probe` does."""
    tensors = [tensor for _, tensor in tensors_in(batch)]
    with undisturbed(model) as guard, uncompiled(), torch.no_grad():
        guard.protect(tensors)
        recorder = Recorder(model, guard)
        with recorder.follow(tensors, detailed=True):
            loss(model, batch)
        return recorder.attention.finished()


class _Look:
    """The steps of one probe, and what they found."""

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._model = model
        self._recorder = Recorder(model, guard)
        self._names = trainable_names(model.named_parameters())
        self._owner = Owner(model)
        self._columns: dict[str, Column] = {}
        self._trouble: list[str] = []
        self._graph: Graph | None = None
        self._flow: Flow | None = None
        self._budget: Budget | None = None
        self._output: OutputReading | None = None
        self._loss = math.nan
        self._parameters: tuple[ParameterReading, ...] = ()
        self._zeros = 0.0

    def first(self, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> None:
        """Forward with every detail, the graph, backward."""
        named = list(tensors_in(batch))
        with torch.inference_mode(mode=False), torch.enable_grad():
            with self._recorder.follow([t for _, t in named], detailed=True) as run:
                value = loss(self._model, batch)
            self._take_in(named, run)
            expect_one_number(value)
            self._output = _output(run, self._recorder)
            end = run.end if _returns_values(run.output) else None
            run.output = None
            run.handed.clear()
            self._loss = float(value.detach())
            data = {number for number, seen in run.seen.items() if seen.data}
            self._graph = walk(value, run.module_of, data, self._names)
            if self._graph is not None and not any(node.data and node.trainable for node in self._graph.nodes):
                self._trouble.append(
                    "the samples were not seen to flow into the network: the budget starts at its first weight"
                )
                self._graph = walk(value, run.module_of, first_weight(self._graph), self._names)
            gradients = self._backward(value, run, end)
        order = _order(self._graph, self._names)
        self._parameters, self._zeros = parameter_readings(self._model, gradients, order)

    def _backward(self, value: Tensor, run: Pass, end: int | None) -> dict[int, Tensor | None]:
        graph = self._graph
        if graph is None or not graph.root.trainable:
            self._trouble.append("the loss depends on no trainable parameter: there is no gradient to follow")
            return {}
        if graph.hidden:
            self._trouble.append(
                f"{graph.hidden} re-entrant checkpoints keep their operations out of the graph: each is one operation "
                "here (checkpoint(..., use_reentrant=False) can be looked into)"
            )
        cut = chain(graph, end)
        rows = groups(cut) if cut is not None else []
        self._flow = Flow(graph)
        found = terms(graph, cut, self._owner) if cut is not None and not graph.hidden else ()
        gradients = backward(value, graph, self._flow, self._model, projected(rows), retain=bool(found))
        if cut is not None:
            self._budget = settle(rows, self._flow, self._owner, Spreads(run))
            early = rows[0].early if rows else Cut((cut.first,)) if cut.first is not None else None
            if found and early is not None:
                self._budget = replace(self._budget, losses=self._shares(value, found, early, self._flow))
        return gradients

    def _shares(self, value: Tensor, found: Sequence[Term], early: Cut, flow: Flow) -> tuple[LossShare, ...]:
        told = shares(value, found, early, flow)
        if told is None:
            self._trouble.append(
                f"the loss has {len(found)} terms, and their shares are unknown: a second backward pass failed, or did "
                "not give the gradient of the first"
            )
        return told or ()

    def again(self, loss: Callable[[nn.Module, Any], Tensor], batch: Any) -> None:
        """Forward only, for more samples."""
        named = list(tensors_in(batch))
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            self._recorder.follow([t for _, t in named], detailed=False) as run,
        ):
            warnings.simplefilter(
                "ignore"
            )  # the first batch has had its say; checkpoints complain that no gradient flows
            loss(self._model, batch)
        self._take_in(named, run)

    def _take_in(self, named: Sequence[tuple[str, Tensor]], run: Pass) -> None:
        """File what the model was handed as inputs, and the floating rest of the batch as targets."""
        used = 0
        entries = []
        for name, tensor in run.handed.items():
            used |= run.origins.get(name, 0)
            entries.append((name, "input", tensor))
        for bit, (name, tensor) in enumerate(named):
            if not used >> bit & 1 and tensor.is_floating_point():
                role = "target" if run.handed or bit else "input"
                entries.append((f"batch {name}".strip() if name.isdigit() else name or "batch", role, tensor))
        merge(self._columns, entries)

    def result(self, step: int) -> Probe:
        """Everything as plain data."""
        graph, flow = self._graph, self._flow
        nodes = {node.number: node for node in graph.nodes} if graph else {}
        activations = []
        for order, use in enumerate(self._recorder.uses.values()):
            node = nodes.get(use.number)
            gradient = flow.at(node) if flow and node else math.nan
            activations.append(activation_reading(use, order, gradient))
        return Probe(
            step=step,
            loss=self._loss,
            budget=self._budget,
            activations=tuple(activations),
            parameters=self._parameters,
            inputs=tuple(found.reading() for found in self._columns.values()),
            output=self._output,
            operations=operation_readings(graph, flow) if graph and flow else (),
            dtypes=tuple(str(dtype).removeprefix("torch.") for dtype in self._recorder.dtypes),
            low_precision_zeros=self._zeros,
            trouble=tuple(self._trouble),
            attention=self._recorder.attention.finished(),
            classes={
                name: type(module).__name__
                for name, module in self._model.named_modules(remove_duplicate=False)
                if name
            },
        )


def _returns_values(output: Any) -> bool:
    """Whether what the model returned is short of the loss: a 0-d tensor in it is a loss that it computed."""
    found = [tensor for _, tensor in tensors_in(output) if tensor.requires_grad]
    return bool(found) and all(tensor.dim() > 0 for tensor in found)


def _output(run: Pass, recorder: Recorder) -> OutputReading | None:
    found = [tensor for _, tensor in tensors_in(run.output) if tensor.is_floating_point() and tensor.dim() > 0]
    if len(found) != 1:
        logits = getattr(run.output, "logits", None)
        found = [logits] if isinstance(logits, Tensor) else []
    if not found:
        return None
    known = recorder.trace(found[0])
    kind, module = (known.kind, known.module) if known is not None else ("other", "")
    return OutputReading(tuple(found[0].shape), kind, module)


def _order(graph: Graph | None, names: Mapping[int, str]) -> list[str]:
    if graph is None:
        return []
    nodes = in_forward_order(graph.nodes)
    return list(dict.fromkeys(names[id(leaf)] for node in nodes for leaf in node.leaves if id(leaf) in names))
