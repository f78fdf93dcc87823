"""Readings of the layers that ran unrolled: `nn.RNN`, `nn.LSTM`, `nn.GRU`, called once or many times in a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graddoctor.observe._cells import jacobian
from graddoctor.observe._lags import LIFT, aligned, cotangent, over_samples, power, profile, underflow
from graddoctor.observe._spectra import spectrum
from graddoctor.observe._states import flat_gates, openness, saturation
from graddoctor.observe._unrolled import Trail, Unrolled
from graddoctor.observe.readings import Spectrum, TemporalReading

_LARGEST = 512  # numbers in a state whose Jacobian is still decomposed


def readings(
    runs: Sequence[Unrolled], of_loss: Mapping[Unrolled, Trail], named: Mapping[str, str]
) -> Iterator[TemporalReading]:
    """Read every layer in every direction.

    Parameters
    ----------
    runs
        All runs of a forward pass, in order, in the graph of its loss.
    of_loss
        What the loss left at each of them.
    named
        What to call each module.
    """
    groups: dict[tuple[str, int, bool], list[Unrolled]] = {}
    for run in runs:
        run.listen()
        groups.setdefault((run.module, run.layer, run.reverse), []).append(run)
    for (module, layer, reverse), calls in groups.items():
        several = max(key[1] for key in groups if key[0] == module)
        name = named[module] + (f" layer {layer}" if several else "") + (" reverse" if reverse else "")
        yield _reading(name, _chained(calls), of_loss)


@dataclass(frozen=True)
class _Chain:
    """Calls of one layer that hand the state on, in the order of the forward pass, and their way back from the end."""

    calls: tuple[Unrolled, ...]
    trails: tuple[Trail, ...]
    notes: tuple[str, ...] = ()

    @property
    def lengths(self) -> Tensor:
        return torch.stack([call.lengths for call in self.calls]).sum(0)

    def logs(self, *, cell: bool = False) -> list[float]:
        """log10 of the gradient over the lag."""
        tables = [
            aligned(trail.read(trail.cell if cell else trail.hidden, call.sizes), call.lengths, reverse=call.reverse)
            for call, trail in zip(self.calls, self.trails, strict=True)
        ]
        return over_samples(torch.cat(tables[::-1]), self.lengths)


def _chained(calls: Sequence[Unrolled]) -> _Chain:
    """Find how far back the last call's state goes over earlier calls; the longest call alone if it goes nowhere."""
    trails = _over_calls(calls) if len(calls) > 1 else ()
    if len(trails) > 1:
        return _Chain(tuple(calls[-len(trails) :]), trails)
    longest = max(calls, key=lambda call: len(call.sizes))
    note = f"it ran {len(calls)} times, and its state is not followed from one to the next: this is its longest run"
    return _Chain((longest,), (longest.lag(_enters(longest)),), (note,) if len(calls) > 1 else ())


def _over_calls(calls: Sequence[Unrolled]) -> tuple[Trail, ...]:
    """Take a cotangent of the last call's last state back through the graph that ties the calls to each other."""
    last = calls[-1]
    ragged = any(set(call.sizes) != {last.sizes[0]} for call in calls)
    if ragged or last.reverse or last.output is None or last.output.grad_fn is None:
        return ()
    trails = _sent_back(calls, LIFT)
    if not all(bool(norms.isfinite().all()) for trail in trails for norms in trail.hidden.values()):
        trails = _sent_back(calls, 0)
    first = len(calls) - 1
    while first and calls[first].given and calls[first - 1].connected:
        first -= 1
    for call in calls:
        call.listen()  # states of all layers are handed on as one tensor: other layers' adjoints come by here as zeros
    return tuple(trails[first:])


def _sent_back(calls: Sequence[Unrolled], lift: int) -> list[Trail]:
    """Send a cotangent of size 2**lift back from the end of the last call, and keep where it came by."""
    last, trails = calls[-1], [call.listen() for call in calls]
    assert last.output is not None  # noqa: S101 - the caller has looked
    entering = torch.zeros_like(last.output)
    entering[last.rows(last.times[-1])] = _enters(last) * 2.0**lift
    torch.autograd.grad(last.output, [call.anchor for call in calls], entering, retain_graph=True, allow_unused=True)
    for trail in trails:
        trail.scale = {time: torch.full_like(norms, -lift) for time, norms in trail.hidden.items()}
    return trails


def _enters(run: Unrolled) -> Tensor:
    ends = run.steps[run.times[-1]].h
    return cotangent(ends.new_empty(run.sizes[0], ends.shape[-1]))


def _reading(name: str, chain: _Chain, of_loss: Mapping[Unrolled, Trail]) -> TemporalReading:
    first = chain.calls[0]
    lag = profile(chain.logs())
    steps = [step for call in chain.calls for step in call.in_order()]
    return TemporalReading(
        name=name,
        module=first.module,
        modules=(first.module,),
        kind=first.cell.kind,
        layer=first.layer,
        reverse=first.reverse,
        steps=len(steps),
        source="hidden",
        loss_gradient=tuple(value for call in chain.calls for value in of_loss[call].over_batch(len(call.sizes))),
        lag_gradient=lag.values,
        decades=lag.decades,
        decades_per_step=lag.per_step,
        horizon_1=lag.horizon_1,
        horizon_3=lag.horizon_3,
        cut=lag.cut,
        cell_lag_gradient=tuple(map(power, chain.logs(cell=True))) if first.cell.keeps_cell else (),
        spectrum=_spectrum(chain.calls),
        gates=openness(steps),
        gate_saturation=flat_gates(steps),
        saturation=saturation(steps),
        notes=(*chain.notes, *_hidden(first), *underflow(lag, steps[0].h.dtype)),
    )


def _hidden(run: Unrolled) -> tuple[str, ...]:
    note = "it ran without a graph (in no_grad, or in a re-entrant checkpoint): the gradient of the loss is not seen"
    return () if run.recorded else (note,)


def _spectrum(calls: Sequence[Unrolled]) -> Spectrum | None:
    first = calls[0]
    moments = [(call, time) for call in calls for time in call.times][1:]  # into these a state came from a step before
    state = first.steps[0].h.shape[-1] + (first.weights.units if first.cell.keeps_cell else 0)

    def of(place: int, sample: int) -> Tensor:
        call, time = moments[place]
        return jacobian(call.cell, call.steps[time].of(sample), call.weights)

    def samples(place: int) -> int:
        call, time = moments[place]
        return call.sizes[time]

    return spectrum(len(moments) if state <= _LARGEST else 0, samples, of, first.cell.radius(first.weights))
