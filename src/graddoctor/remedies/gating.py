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

from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit, edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.recurrent import gate_recurrence, open_gates
from graddoctor.remedies.plain.state_gates import gate_states, owner_of_gate
from graddoctor.remedies.recurrent import Carrier
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import build_model, loss_of

SHORT = 0.25
"""Gates are shut where a memory lasts for less than this share of the sequence."""

LONG = 30.0
"""They are shut to what is new where a memory lasts for more than so many sequences."""

SHORTEST = 8
"""Sequences of fewer steps need no long memory."""

_NOTE = "This is h = z * h + (1 - z) * new, with a gate z beside each state, and can be written into your own loop."
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
    """Exchange cells without gates for LSTMs whose gates start open, single `nn.RNNCell`s for GRU cells.

    Sizes, arguments and results stay: an LSTM hands on its hidden state alone, and keeps its memory by it. A GRU cell
    has no other state. States in a loop that is written by hand get a gate beside them.

    Returns
    -------
    ``None`` where no cell without gates is trained.

    Source: Hochreiter and Schmidhuber 1997; Tallec and Ollivier 2018 for the gates.
    """
    return _exchanged(facts, nn.LSTM)


def gated_cells(facts: Facts) -> list[Remedy]:
    """Prescribe LSTMs and GRUs for cells without gates, each with the chrono initialization and with one bias."""
    ways = ((nn.LSTM, True), (nn.LSTM, False), (nn.GRU, False), (nn.GRU, True))  # a step of a GRU takes longer on a CPU
    found = [_exchanged(facts, kind, chrono=chrono) for kind, chrono in ways]
    return list({one.name: one for one in found if one is not None}.values())


def _exchanged(facts: Facts, kind: type[nn.Module], *, chrono: bool = True) -> Remedy | None:
    given = [one for one in facts.carriers if one.vanilla and one.steps]
    loops = {one.loop.weight: one.loop.activation for one in facts.carriers if one.loop and _gateable(facts.model, one)}
    if not given and not loops:
        return None
    steps, names = longest(facts.carriers), tuple(one.name for one in given)
    gates: dict[str, Any] = {"steps": steps} if chrono else {"bias": suiting_bias(steps)}
    layers = [one for one in given if one.kind is nn.RNN]
    kind = kind if layers else nn.GRU
    edits = [Edit("model", gate_recurrence, {"names": names, "replacement": kind, **gates})] if given else []
    edits += [Edit("model", gate_states, {"loops": loops, **gates}, _NOTE)] if loops else []
    if loops and not _all_act(edited(facts.recipe, edits), facts.batch, loops):
        return None
    how = f"open for {steps} steps" if chrono else f"with bias {gates['bias']:g}"
    return Remedy.written(
        f"{_NAMES[kind]} {how} in place of RNN" if given else f"gates {how} beside the state",
        (Cause.RECURRENCE,),
        edits,
        source=f"{_SOURCES[kind]}; {_CHRONO if chrono else 'Jozefowicz et al. 2015'}",
        modules=(*names, *(one.name for one in facts.carriers if one.loop and one.loop.weight in loops)),
        cost=_cost(facts, edits),
    )


def _gateable(model: nn.Module, one: Carrier) -> bool:
    """Whether a loop by hand makes its new state by one nonlinearity of a sum, and has no gate yet."""
    if one.loop is None or not one.loop.activation:
        return False
    return not hasattr(owner_of_gate(one.loop.weight, model), "state_gate")


def _all_act(treated: Recipe, batch: Any, loops: Iterable[str]) -> bool:
    """Whether the loss of a treated network depends on the gate of each loop."""
    net = build_model(treated)
    gates = [net.get_parameter(f"{weight.rpartition('.')[0]}.state_gate.bias".lstrip(".")) for weight in loops]
    with seeded(treated.seed), torch.enable_grad():
        slopes = torch.autograd.grad(loss_of(treated, net, batch), gates, allow_unused=True)
    return all(slope is not None for slope in slopes)


def _cost(facts: Facts, edits: list[Edit]) -> str:
    """Count what is added to the parameters."""
    before, after = (
        sum(p.numel() for p in m.parameters()) for m in (facts.model, build_model(edited(facts.recipe, edits)))
    )
    return f"{after - before} parameters ({before} before)"


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
