"""Readings of states that stand in the autograd graph one by one: cells called in a loop, loops written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from graddoctor.observe._cells import CELLS, jacobian
from graddoctor.observe._kernels import CellCall
from graddoctor.observe._lags import LIFT, cotangent, over_samples, power, profile, underflow
from graddoctor.observe._loops import Loop
from graddoctor.observe._spectra import spectrum
from graddoctor.observe._states import flat_gates, flat_sigmoid, flat_tanh, openness, read, saturation
from graddoctor.observe.graph import Edge, Node
from graddoctor.observe.readings import TemporalReading

_SMALL = 256  # numbers in a state whose Jacobian is worth so many ways back

Series = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Chain:
    """States in the order of time, and what is known of them.

    ``jacobian`` gives the transposed Jacobian of the state at a place to the state before it, for one sample.
    """

    name: str
    modules: tuple[str, ...]
    kind: str
    states: tuple[GradientEdge, ...]
    jacobian: Callable[[int, int], Tensor]
    cells: tuple[GradientEdge, ...] = ()
    gates: Series = field(default_factory=dict)
    gate_saturation: Series = field(default_factory=dict)
    saturation: tuple[float, ...] = ()
    radius: float = math.nan

    def reading(self, of_loss: Sequence[Tensor | None]) -> TemporalReading:
        """Read it; ``of_loss``: the gradient of the loss at every state."""
        lag = _Lag(self)
        first, hidden = lag.first, profile(lag.logs(lag.hidden))
        count = len(self.states) - first
        shape = _shape(self.states[-1])
        small = math.prod(shape[1:] if len(shape) > 1 else shape) <= _SMALL
        return TemporalReading(
            name=self.name,
            module=self.modules[0],
            modules=self.modules,
            kind=self.kind,
            layer=0,
            reverse=False,
            steps=count,
            source="hidden",
            loss_gradient=tuple(_norm(gradient) for gradient in of_loss[first:]),
            lag_gradient=hidden.values,
            decades=hidden.decades,
            decades_per_step=hidden.per_step,
            horizon_1=hidden.horizon_1,
            horizon_3=hidden.horizon_3,
            cut=hidden.cut,
            cell_lag_gradient=tuple(map(power, lag.logs(lag.cell))) if lag.cell else (),
            spectrum=spectrum(
                count - 1 if small else 0,
                lambda _: shape[0] if len(shape) > 1 else 1,
                lambda place, sample: self.jacobian(first + place + 1, sample),
                self.radius,
            ),
            gates={name: values[first:] for name, values in self.gates.items()},
            gate_saturation={name: values[first:] for name, values in self.gate_saturation.items()},
            saturation=self.saturation[first:] or (math.nan,) * count,
            notes=(*self._broken(first), *underflow(hidden, _dtype(self.states[-1]))),
        )

    def _broken(self, first: int) -> tuple[str, ...]:
        if not first:
            return ()
        last, kept = len(self.states), len(self.states) - first
        return (f"of its {last} steps the last {kept} hang together: no gradient goes from them to the ones before",)


class _Lag:
    """A cotangent of a chain's last state, taken back to every state before it."""

    def __init__(self, chain: Chain) -> None:
        entering = cotangent(torch.empty(_shape(chain.states[-1]), dtype=_dtype(chain.states[-1])))
        entering = entering.to(_device(chain.states[-1]))
        for size in (2.0**LIFT, 1.0):
            found = _gradients(chain.states[-1], [*chain.states, *chain.cells], entering * size)
            if all(bool(one.isfinite().all()) for one in found if one is not None):
                break
        hidden, cell = found[: len(chain.states)], found[len(chain.states) :]
        self._size = size
        self.first = max((place + 1 for place, one in enumerate(hidden) if one is None), default=0)
        self.hidden = [one for one in hidden[self.first :] if one is not None]
        inner = [one for one in cell[self.first :] if one is not None]
        self.cell = inner if len(inner) == len(self.hidden) else []

    def logs(self, gradients: Sequence[Tensor]) -> list[float]:
        """log10 of the norm over the lag."""
        norms = [_by_sample(one).double().norm(dim=1) / self._size for one in reversed(gradients)]
        table = torch.stack(norms).log10().cpu()
        table = torch.where(table == torch.inf, torch.nan, table)
        return over_samples(table, torch.full((table.shape[1],), len(table)))


def _gradients(end: GradientEdge, at: Sequence[GradientEdge], entering: Tensor) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        [end], list(at), [entering], retain_graph=True, allow_unused=True
    )
    return found


def _by_sample(gradient: Tensor) -> Tensor:
    return gradient.flatten(1) if gradient.dim() > 1 else gradient.unsqueeze(0)


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient, dtype=torch.float64))


def _shape(edge: GradientEdge) -> tuple[int, ...]:
    return tuple(edge.node._input_metadata[edge.output_nr].shape)  # noqa: SLF001 - as in graph


def _dtype(edge: GradientEdge) -> torch.dtype:
    dtype: torch.dtype = edge.node._input_metadata[edge.output_nr].dtype  # noqa: SLF001 - as above
    return dtype


def _device(edge: GradientEdge) -> torch.device:
    device: torch.device = edge.node._input_metadata[edge.output_nr].device  # noqa: SLF001 - as above
    return device


# --- cells called in a loop ------------------------------------------------------------------------------------------


def of_cells(calls: Sequence[CellCall], named: Mapping[str, str]) -> Iterator[Chain]:
    """Make a chain of each module's calls."""
    by_module: dict[str, list[CellCall]] = {}
    for call in calls:
        if call.step.h.requires_grad:
            by_module.setdefault(call.module, []).append(call)
    for module, mine in by_module.items():
        yield _of_calls(module, named[module], mine)


def _of_calls(module: str, name: str, calls: Sequence[CellCall]) -> Chain:
    steps, weights, cell = [call.step for call in calls], calls[-1].weights, CELLS[calls[-1].kind]
    inner = [step.c for step in steps if step.c is not None]
    with torch.no_grad():
        return Chain(
            name=name,
            modules=(module,),
            kind=cell.kind,
            states=tuple(_edge(step.h) for step in steps),
            jacobian=lambda place, sample: jacobian(cell, steps[place].of(sample), weights),
            cells=tuple(map(_edge, inner)),
            gates=openness(steps),
            gate_saturation=flat_gates(steps),
            saturation=saturation(steps),
            radius=cell.radius(weights),
        )


def _edge(tensor: Tensor) -> GradientEdge:
    return torch.autograd.graph.get_gradient_edge(tensor)


# --- loops written by hand -------------------------------------------------------------------------------------------


def of_loop(loop: Loop, owner: Callable[[str], str], parameters: Mapping[str, Tensor]) -> Chain:
    """Make a chain of a loop; ``owner`` tells the module of a parameter."""
    states = tuple(map(_edge_of, loop.states))
    modules = tuple(dict.fromkeys(map(owner, loop.weights)))
    gates = {name: row for name, row in (loop.gates or {}).items() if _result(row[0]) is not None}
    return Chain(
        name=modules[0] or loop.weights[0],
        modules=modules,
        kind="loop",
        states=states,
        jacobian=lambda place, sample: _pulled_back(states[place], states[place - 1], sample),
        cells=tuple(map(_edge_of, loop.cells)) if len(loop.cells) == len(states) else (),
        gates={name: _series(row, torch.mean, len(states)) for name, row in gates.items()},
        gate_saturation={name: _series(row, flat_sigmoid, len(states)) for name, row in gates.items()},
        saturation=_series(loop.squashed, flat_tanh, len(states)),
        radius=_radius(parameters[loop.weights[0]]) if ".parametrizations." not in loop.weights[0] else math.nan,
    )


def _edge_of(edge: Edge) -> GradientEdge:
    return GradientEdge(edge.source.raw, edge.output)


def _series(row: Sequence[Node], of: Callable[[Tensor], Tensor], steps: int) -> tuple[float, ...]:
    """Read a number off what the same operation made at every step."""
    results = [result for node in row[:steps] if (result := _result(node)) is not None]
    return read([of(result) for result in results]) if results and len(results) == steps else ()


def _result(node: Node) -> Tensor | None:
    try:
        result = node.raw._saved_result  # noqa: SLF001 - tanh and sigmoid keep what they made for their derivative
    except (AttributeError, RuntimeError):  # it has been written over since, or the operation keeps none
        return None
    return result.detach() if isinstance(result, Tensor) else None


def _pulled_back(after: GradientEdge, before: GradientEdge, sample: int) -> Tensor:
    shape = _shape(after)
    flat = len(shape) == 1
    size = math.prod(shape if flat else shape[1:])
    basis = torch.zeros((size, *shape), dtype=_dtype(after), device=_device(after))
    eye = torch.eye(size, dtype=basis.dtype, device=basis.device)
    (basis if flat else basis[:, sample]).copy_(eye.view(size, *(shape if flat else shape[1:])))
    (found,) = torch.autograd.grad([after], [before], [basis], retain_graph=True, is_grads_batched=True)
    return (found if flat else found[:, sample]).flatten(1)


def _radius(weight: Tensor) -> float:
    square = weight.dim() == 2 and weight.shape[0] == weight.shape[1]  # noqa: PLR2004 - a matrix has two axes
    if not square or not bool(weight.isfinite().all()):
        return math.nan
    return float(torch.linalg.eigvals(weight.detach().double()).abs().max())
