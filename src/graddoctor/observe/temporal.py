"""Look at the gradient through time, exactly: ∂L/∂h_t at every step, and what is left of it after a lag.

The kernels of `nn.RNN`, `nn.LSTM` and `nn.GRU` are fused: they show every h_t, but no gradient there. So this look runs
the step with elementary operations in their place, from the same random state, and says by how much the loss then
differs. Cells in a Python loop, and loops written by hand, are found in the autograd graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe._chains import Chain, of_cells, of_loop
from graddoctor.observe._float32 import full_float32
from graddoctor.observe._guard import undisturbed
from graddoctor.observe._kernels import Kernels
from graddoctor.observe._layers import readings as layer_readings
from graddoctor.observe._loops import loops
from graddoctor.observe._recorder import tensors_in
from graddoctor.observe._sequences import reading as attention_reading
from graddoctor.observe._sequences import with_gradient
from graddoctor.observe._step import Writes, expect_one_number, uncompiled
from graddoctor.observe._unrolled import UNROLLED
from graddoctor.observe.engine import graph_clock
from graddoctor.observe.graph import Graph, walk
from graddoctor.observe.readings import TemporalReading

_EVERY_NODE = range(1 << 62)
_CLOSE = 1e-4  # relative difference of two losses that are the same up to rounding

Loss = Callable[[nn.Module, Any], Tensor]


def through_time(model: nn.Module, loss: Loss, batch: Any) -> tuple[TemporalReading, ...]:
    """Look at the gradient through time of one step; nothing is left changed, as with `probe`.

    Parameters
    ----------
    model
        The network, in the mode in which it trains.
    loss
        ``(model, batch) -> 0-d tensor``.
    batch
        One batch. Sequences may be ragged (packed).

    Returns
    -------
    One reading for each recurrent module, layer and direction, and for each loop, in the order of the forward pass; for
    a network with attention and no recurrence, one at its inputs; empty where nothing goes through time. Norms are
    Frobenius norms in float64; decades are log10 units.

    Raises
    ------
    RecipeError
        If the loss is not a tensor with one element.

    Notes
    -----
    The cost is one pass forward as it is, one in elementary operations, and two back through time: linear in the
    number of steps.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.RNN(3, 16)
    >>> look = through_time(model, lambda m, x: m(x)[0][-1].square().sum(), torch.randn(20, 4, 3))
    >>> [(one.name, one.kind, one.steps) for one in look]
    [('rnn', 'rnn_tanh', 20)]
    >>> look[0].decades < -3
    True
    """
    with full_float32():
        look = _Look(model)
        found = look.take(loss, batch)
        steps = look.kernels.attention.steps
        if not found and steps:
            with with_gradient(model, steps) as inputs:
                return tuple(_Look(model, inputs).take(loss, batch))
        if look.stood_in:
            plain = None if look.kernels.own_masks else _as_it_is(model, loss, batch)
            close = max(_CLOSE, 2 * look.kernels.rounding)
            found = [_verified(one, look.loss, plain, close) for one in found]
        return tuple(found)


def _as_it_is(model: nn.Module, loss: Loss, batch: Any) -> float:
    """The loss as the model computes it, from the same random state."""
    with undisturbed(model) as guard, uncompiled():
        guard.protect(tensor for _, tensor in tensors_in(batch))
        with torch.inference_mode(mode=False), torch.enable_grad(), Writes(guard):
            return float(loss(model, batch).detach())


def _verified(reading: TemporalReading, elementary: float, plain: float | None, close: float) -> TemporalReading:
    if plain is None:
        note = "on a GPU the kernel draws dropout of its own: it cannot be verified that the loss is the same"
        return replace(reading, verified=math.nan, notes=(*reading.notes, note))
    same = elementary == plain or (math.isnan(elementary) and math.isnan(plain))
    difference = 0.0 if same else abs(elementary - plain) / max(abs(plain), abs(elementary))
    if difference <= close:
        return replace(reading, verified=difference)
    note = f"in elementary operations the loss is {elementary:.6g}, as the model computes it {plain:.6g}"
    return replace(reading, verified=difference, notes=(*reading.notes, note))


class _Look:
    """One forward pass in elementary operations, and what there was in it."""

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor] = ()) -> None:
        self.kernels, self.loss = Kernels(model), math.nan
        self._model, self._inputs = model, inputs
        self._begin = graph_clock()
        self._named = {name: name or type(model).__name__.lower() for name, _ in model.named_modules()}

    @property
    def stood_in(self) -> bool:
        """Whether elementary operations stood in for any kernel."""
        return bool(self.kernels.layers or self.kernels.cells)

    def take(self, loss: Loss, batch: Any) -> list[TemporalReading]:
        """Run the step and read it: what carries a state, or else the inputs of what pays attention."""
        with undisturbed(self._model) as guard, uncompiled():
            guard.protect(tensor for _, tensor in tensors_in(batch))
            try:
                with torch.inference_mode(mode=False), torch.enable_grad():
                    with Writes(guard), self.kernels.follow():
                        value = loss(self._model, batch)
                    expect_one_number(value)
                    self.loss = float(value.detach())
                    with self.kernels.run_again():
                        return self._states(value) or self._at_inputs(value)
            finally:
                for run in self.kernels.layers:
                    run.forget()

    def _at_inputs(self, value: Tensor) -> list[TemporalReading]:
        attention = self.kernels.attention
        module, x = attention.inputs() or ("", next(iter(self._inputs), None))
        if x is None or not attention.steps:
            return []
        one = attention_reading(module, x, attention.steps, self.kernels.output, value)
        return [] if one is None else [one]

    def _states(self, value: Tensor) -> list[TemporalReading]:
        graph, older = self._graph(value)
        runs = tuple(self.kernels.layers)
        with torch.no_grad():
            chains = [*of_cells(self.kernels.cells, self._named)]
            chains += self._loops(graph, {state.node for chain in chains for state in chain.states})
            chains = [chain for chain in chains if not chain.empty]
            trails = {run: run.listen() for run in runs}
            of_loss = _gradients(value, [run.anchor for run in runs], chains)
            found = [*layer_readings(runs, trails, self._named), *_read(chains, of_loss)]
        if older:
            note = (
                "the graph behind the loss goes back to before this step: a state is kept with its graph, which grows "
                "from batch to batch, in time and memory; detach() it between batches"
            )
            found = [replace(one, notes=(*one.notes, note)) for one in found]
        return _unique(found)

    def _graph(self, value: Tensor) -> tuple[Graph | None, int]:
        """The graph of this pass, and how many operations of earlier ones hang on it."""
        graph = walk(value, lambda _number, _kind: "", _EVERY_NODE, {})
        if graph is None:
            return None, 0
        new = tuple(node for node in graph.nodes if node.number >= self._begin)
        for node in new:
            inputs = [edge for edge in node.inputs if edge.source.number >= self._begin]
            if len(inputs) < len(node.inputs):  # to this step, what earlier ones left is data
                self.kernels.fresh.setdefault(node.number, [])
            node.inputs = inputs
        return Graph(graph.root, new), len(graph.nodes) - len(new)

    def _loops(self, graph: Graph | None, seen: Collection[Any]) -> Iterator[Chain]:
        """Loops but those around a cell or layer that is read already: what it is fed back by is no state beside it."""
        if graph is None or graph.hidden:
            return
        known = {number for call in self.kernels.cells for number in call.known}
        parameters = {
            name: parameter
            for name, parameter in self._model.named_parameters()
            if id(parameter) not in known and not nn.parameter.is_lazy(parameter)
        }
        for loop in loops(graph, parameters, self.kernels.fresh):
            if UNROLLED not in loop.kinds and not any(state.source.raw in seen for state in loop.states):
                yield of_loop(loop, _owner, parameters)


def _owner(parameter: str) -> str:
    """The module of a parameter; of one that stands behind another, the module of that."""
    module, _, parametrized = parameter.partition(".parametrizations.")
    return module if parametrized else parameter.rpartition(".")[0]


def _gradients(value: Tensor, anchors: Sequence[Tensor], chains: Sequence[Chain]) -> list[Tensor | None]:
    """Take the loss back to all states at once: layers keep what passes themselves, chains are given theirs."""
    states = [state for chain in chains for state in chain.states]
    if value.grad_fn is None or not (anchors or states):
        return [None] * len(states)
    wanted: list[Any] = [*anchors, *states]
    found = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    return list(found[len(anchors) :])


def _read(chains: Sequence[Chain], gradients: Sequence[Tensor | None]) -> Iterator[TemporalReading]:
    begin = 0
    for chain in chains:
        end = begin + len(chain.states)
        yield chain.reading(gradients[begin:end])
        begin = end


def _unique(found: Sequence[TemporalReading]) -> list[TemporalReading]:
    counts: dict[str, int] = {}
    unique = []
    for one in found:
        count = counts[one.name] = counts.get(one.name, 0) + 1
        unique.append(one if count == 1 else replace(one, name=f"{one.name} #{count}"))
    return unique
