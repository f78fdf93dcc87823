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

_FAINT, _CLOSE = 1e-30, 1e-3  # below that float32 loses digits; relative difference of what is the same up to rounding
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

    @property
    def empty(self) -> bool:
        """Whether there is no number in a state: a batch without samples."""
        return not math.prod(_shape(self.states[-1]))

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
        note = (
            f"of its {last} steps the last {kept} hang together: from them no gradient goes to the ones before, whose "
            "state was detached or is that of another sequence"
        )
        return (note,)


class _Lag:
    """A cotangent of a chain's last state, taken back to every state before it."""

    def __init__(self, chain: Chain) -> None:
        end, at = chain.states[-1], [*chain.states, *chain.cells]
        entering = cotangent(torch.empty(_shape(end), dtype=_dtype(end), device=_device(end)))
        found, self._size = _gradients(end, at, entering), 1.0
        if min(map(_largest, found)) < _FAINT:
            lifted = _gradients(end, at, entering * 2.0**LIFT)
            if all(_scaled(*pair) for pair in zip(found, lifted, strict=True)):
                found, self._size = lifted, 2.0**LIFT
        hidden, cell = found[: len(chain.states)], found[len(chain.states) :]
        self.first = max((place + 1 for place, one in enumerate(hidden) if one is None), default=0)
        self.hidden = [one for one in hidden[self.first :] if one is not None]
        inner = [one for one in cell[self.first :] if one is not None]
        self.cell = inner if len(inner) == len(self.hidden) else []

    def logs(self, gradients: Sequence[Tensor]) -> list[float]:
        """log10 of the norm over the lag."""
        norms = [_by_sample(one).double().norm(dim=1) / self._size for one in reversed(gradients)]
        table = torch.stack(norms).log10().cpu()
        table = torch.where(table == torch.inf, torch.nan, table)
        return over_samples(table, torch.full((table.shape[1],), len(table), device="cpu"))


def _gradients(end: GradientEdge, at: Sequence[GradientEdge], entering: Tensor) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        [end], list(at), [entering], retain_graph=True, allow_unused=True
    )
    return found


def _largest(gradient: Tensor | None) -> float:
    return math.inf if gradient is None else float(gradient.detach().abs().max())


def _scaled(small: Tensor | None, lifted: Tensor | None) -> bool:
    """Whether a lifted cotangent came back lifted: it may overflow, and a hook that clips makes it another one."""
    if small is None or lifted is None:
        return small is lifted
    size = _largest(small)
    return bool(lifted.isfinite().all()) and (
        size < _FAINT or math.isclose(_largest(lifted), size * 2.0**LIFT, rel_tol=_CLOSE)
    )


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
    states = tuple(map(_edge, _carried(calls, 0, [step.h for step in steps])))
    inner = _carried(calls, 1, [step.c for step in steps if step.c is not None])

    def jacobian_at(place: int, sample: int) -> Tensor:
        if states[place] == _edge(steps[place].h) and states[place - 1] == _edge(steps[place - 1].h):
            return jacobian(cell, steps[place].of(sample), weights)
        return _pulled_back(states[place], states[place - 1], sample)

    with torch.no_grad():
        return Chain(
            name=name,
            modules=(module,),
            kind=cell.kind,
            states=states,
            jacobian=jacobian_at,
            cells=tuple(map(_edge, inner)),
            gates=openness(steps),
            gate_saturation=flat_gates(steps),
            saturation=saturation(steps),
            radius=cell.radius(weights),
        )


def _carried(calls: Sequence[CellCall], which: int, made: Sequence[Tensor]) -> list[Tensor]:
    """The states as the next call is given them: a mask, a sum or a norm may stand between; of the last, as made."""
    found = list(made)
    for place, (own, call) in enumerate(zip(made, calls[1:], strict=False)):
        given = call.before[which]
        if given is not None and given.requires_grad and given.shape == own.shape:
            found[place] = given
    return found


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
    try:
        (found,) = torch.autograd.grad([after], [before], [basis], retain_graph=True, is_grads_batched=True)
    except RuntimeError:  # a hook or a function of the user's own that looks at numbers
        rows = [torch.autograd.grad([after], [before], [row], retain_graph=True)[0] for row in basis]
        found = torch.stack(rows)
    return (found if flat else found[:, sample]).flatten(1)


def _radius(weight: Tensor) -> float:
    square = weight.dim() == 2 and weight.shape[0] == weight.shape[1]  # noqa: PLR2004 - a matrix has two axes
    if not square or not bool(weight.isfinite().all()):
        return math.nan
    return float(torch.linalg.eigvals(weight.detach().double()).abs().max())
