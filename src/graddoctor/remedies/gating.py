"""Gates that start open, and gated cells in the place of ones without gates.

At its start a default LSTM or GRU loses the gradient as fast as a default tanh cell: its gates are half shut, and half
of the memory is gone after one step. So a gated cell always comes with gates that start open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.recurrent import gate_recurrence, open_gates
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

SHORT = 0.25
"""Gates are shut where a memory lasts for less than this share of the sequence."""

LONG = 30.0
"""They are shut to what is new where a memory lasts for more than so many sequences."""

SHORTEST = 8
"""Sequences of fewer steps need no long memory."""

_CHRONO = "Tallec and Ollivier 2018"
_NAMES: dict[type[nn.Module], str] = {nn.LSTM: "LSTM", nn.GRU: "GRU"}
_SOURCES: dict[type[nn.Module], str] = {nn.LSTM: "Hochreiter and Schmidhuber 1997", nn.GRU: "Cho et al. 2014"}


def gates_opened(facts: Facts) -> Remedy | None:
    """Start the gates of the LSTMs and GRUs as long sequences need them: each unit with a memory of its own length.

    Forget biases of an LSTM are log U(1, T - 1) for sequences of T steps, input biases the opposite; of a GRU the
    update biases are so (chrono initialization).

    Returns
    -------
    ``None`` where none is shut: memories last for a quarter of the sequence and more, and new things are let in.

    Source: Tallec and Ollivier 2018.
    """
    shut = _shut(facts)
    steps = longest(shut)
    return _opened(f"chrono initialization for {steps} steps", shut, _CHRONO, steps=steps)


def forget_bias(facts: Facts) -> Remedy | None:
    """Start all forget gates, of a GRU all update gates, with one bias: log T, at least 1 and at most 4.

    Returns
    -------
    ``None`` where no gates are shut, as `gates_opened` has it.

    Source: Gers et al. 2000; Jozefowicz et al. 2015.
    """
    shut = _shut(facts)
    bias = suiting_bias(longest(shut))
    return _opened(f"forget bias {bias:g}", shut, "Gers et al. 2000; Jozefowicz et al. 2015", bias=bias)


def gated_cell(facts: Facts) -> Remedy | None:
    """Exchange cells without gates for LSTMs whose gates start open, and single `nn.RNNCell`s for GRU cells.

    Sizes, arguments and results stay: an LSTM hands on its hidden state alone, and keeps its memory by it. A GRU cell
    has no other state.

    Returns
    -------
    ``None`` where there is neither an ``nn.RNN`` nor an ``nn.RNNCell`` that is trained.

    Source: Hochreiter and Schmidhuber 1997; Tallec and Ollivier 2018 for the gates.
    """
    return _exchanged(facts, nn.LSTM)


def gated_cells(facts: Facts) -> list[Remedy]:
    """Prescribe GRUs and LSTMs for cells without gates, each with the chrono initialization and with one bias."""
    found = [_exchanged(facts, kind, chrono=chrono) for chrono in (True, False) for kind in (nn.GRU, nn.LSTM)]
    return list({one.name: one for one in found if one is not None}.values())


def _exchanged(facts: Facts, kind: type[nn.Module], *, chrono: bool = True) -> Remedy | None:
    given = [one for one in facts.carriers if one.vanilla and one.steps]
    if not given:
        return None
    steps, names = longest(given), tuple(one.name for one in given)
    gates: dict[str, Any] = {"steps": steps} if chrono else {"bias": suiting_bias(steps)}
    edit = Edit("model", gate_recurrence, {"names": names, "replacement": kind, **gates})
    shown = _NAMES[nn.GRU if all(one.kind is nn.RNNCell for one in given) else kind]
    how = f"gates open for {steps} steps" if chrono else f"forget bias {gates['bias']:g}"
    source = f"{_SOURCES[kind]}; {_CHRONO if chrono else 'Jozefowicz et al. 2015'}"
    cost = _cost(facts, edit)
    return Remedy.written(
        f"{shown} in place of RNN, {how}", (Cause.RECURRENCE,), [edit], source=source, modules=names, cost=cost
    )


def _cost(facts: Facts, edit: Edit) -> str:
    """Count what is added on the built network's twin."""
    before = _size(facts.model)
    after = _size(Remedy.written("", (), [edit])(facts.recipe).model())
    return f"{after - before} parameters ({before} before)"


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def suiting_bias(steps: int) -> float:
    """One bias for sequences of so many steps: a memory that lasts for as long, within what is customary."""
    return round(min(4.0, max(1.0, math.log(max(steps, 1)))), 1)


def longest(given: Iterable[Carrier]) -> int:
    """Steps of the longest of their sequences."""
    return max((one.steps for one in given), default=0)


def _opened(name: str, shut: list[Carrier], source: str, **gates: Any) -> Remedy | None:
    if not shut:
        return None
    names = tuple(one.name for one in shut)
    edit = Edit("model", open_gates, {"names": names, **gates})
    return Remedy.written(name, (Cause.GATES,), [edit], source=source, modules=names)


def _shut(facts: Facts) -> list[Carrier]:
    return [one for one in facts.carriers if one.gated and is_shut(facts.model.get_submodule(one.name), one.steps)]


def is_shut(module: nn.Module, steps: int) -> bool:
    """Whether the biases of an LSTM or GRU make it forget too soon for a sequence, or keep out what is new.

    Judged in each layer and direction by the mean over the units of how long a memory lasts, 1/(1 - f) steps.
    """
    if steps < SHORTEST:
        return False
    return any(_shut_biases(module, bias, steps) for bias in _biases(module))


def _shut_biases(module: nn.Module, bias: torch.Tensor, steps: int) -> bool:
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        entrance, memory, _, out = bias.chunk(4)
        closed = min(float(entrance.mean()), float(out.mean())) < -math.log(LONG * steps)
        return closed or _lasting(memory) < SHORT * steps
    _, memory, _ = bias.chunk(3)
    return not SHORT * steps <= _lasting(memory) <= LONG * steps


def _lasting(memory: torch.Tensor) -> float:
    """Mean number of steps that a memory lasts for."""
    return float((1 + memory.double().clamp(max=700).exp()).mean())


def _biases(module: nn.Module) -> Iterable[torch.Tensor]:
    """The two biases of each layer and direction together; none where there are none."""
    for short, first in module.named_parameters(recurse=False):
        if short.startswith("bias_ih"):
            yield (first + getattr(module, short.replace("bias_ih", "bias_hh"))).detach()
