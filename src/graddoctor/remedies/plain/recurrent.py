"""Recurrent layers that remember: gates that start open, and gated cells where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def open_gates(
    model: nn.Module, names: Iterable[str], *, bias: float | None = None, steps: int = 0
) -> nn.Module:
    """Start the gates of the named LSTMs and GRUs, layers or cells, so that they remember.

    Forget gates, of a GRU the update gates, get this `bias`. Without one each unit gets a memory
    of its own, of up to so many `steps`, and the input gates of an LSTM get the opposite (chrono
    initialization, Tallec and Ollivier 2018). Other gates start at 0. PyTorch adds two biases: the
    first has it all.
    """
    with torch.random.fork_rng(devices=[]):  # what is drawn later is drawn as before
        for name in names:
            module: Any = model.get_submodule(name)
            for short, first in list(module.named_parameters(recurse=False)):
                if short.startswith("bias_ih"):
                    second = getattr(module, short.replace("bias_ih", "bias_hh"))
                    fill_gates(module, first, second, bias, steps)
    return model


def fill_gates(
    module: nn.Module, first: torch.Tensor, second: torch.Tensor, bias: float | None, steps: int
) -> None:
    """Fill the gates' part of the two biases of a cell."""
    lstm = isinstance(module, nn.LSTM | nn.LSTMCell)
    size = len(first) // (4 if lstm else 3)
    if bias is None:
        memory = torch.log1p(torch.rand(size) * max(steps - 2, 1))
    else:
        memory = torch.full((size,), bias)
    nothing = torch.zeros(size)
    if lstm:  # input, forget, candidate, output
        entrance = -memory if bias is None else nothing
        gates = {0: entrance, 1: memory, 3: nothing}
    else:  # reset, update, candidate
        gates = {0: nothing, 1: memory}
    for place, values in gates.items():
        first[place * size : (place + 1) * size] = values.to(first)
        second[place * size : (place + 1) * size] = 0


@torch.no_grad()
def centre_states(model: nn.Module, pairs: Mapping[str, str], middle: float) -> nn.Module:
    """Take the mean of a recurrent state out of the sum that its weight makes, by a bias.

    A sigmoid gives values around 1/2, its `middle`. `pairs` has the name of a bias that is added
    and, for each, that of the square weight which is applied to the state.
    """
    for bias, weight in pairs.items():
        model.get_parameter(bias).copy_(-middle * model.get_parameter(weight).sum(1))
    return model


def gate_recurrence(
    model: nn.Module, names: Iterable[str], replacement: type[nn.Module], **gates: Any
) -> nn.Module:
    """Put a gated layer of the same sizes, called in the same way, in the place of each named one.

    An `nn.RNN` becomes an `nn.GRU` or, behind the same interface, an `nn.LSTM`; an `nn.RNNCell`
    becomes an `nn.GRUCell`. The gates start as `open_gates` is told. Parameters keep their names,
    and have more rows.
    """
    names = tuple(names)
    for name in names:
        old = model.get_submodule(name)
        like = next(old.parameters())
        with torch.random.fork_rng(devices=[]):  # what is drawn later is drawn as before
            new = gated_like(old, replacement).to(like.device, like.dtype).train(old.training)
        vars(new).update({key: value for key, value in vars(old).items() if "hook" in key})
        model = exchanged_everywhere(model, old, new)
    return open_gates(model, names, **gates)


def exchanged_everywhere(network: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put one module wherever another one stands; return the network, which may be that one."""
    if network is old:
        return new
    for owner in list(network.modules()):
        for attribute, child in list(vars(owner)["_modules"].items()):
            if child is old:
                setattr(owner, attribute, new)
    return network


def gated_like(old: Any, replacement: type[nn.Module]) -> nn.Module:
    """Make a gated layer of the sizes of one without gates.

    Its recurrent weights are orthogonal, those on its inputs Xavier, gate by gate.
    """
    if isinstance(old, nn.RNNCell):
        new: nn.Module = nn.GRUCell(old.input_size, old.hidden_size)
    else:
        kind: Any = StatefulLSTM if replacement is nn.LSTM else replacement
        new = kind(
            old.input_size,
            old.hidden_size,
            old.num_layers,
            batch_first=old.batch_first,
            dropout=old.dropout if old.num_layers > 1 else 0.0,
            bidirectional=old.bidirectional,
        )
    for name, weight in new.named_parameters():
        draw = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_normal_
        for gate in weight.data.chunk(len(weight) // old.hidden_size) if weight.ndim > 1 else ():
            draw(gate)
    return new


class StatefulLSTM(nn.LSTM):
    """An LSTM that is called as an `nn.RNN` is: it takes and gives the hidden state alone.

    Its memory goes along with the hidden state that it gave last. Where it is handed another one,
    such as what an encoder made of a text, that is its memory too.
    """

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.memory = Memory()

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Run over a sequence."""
        state = None if hx is None else (hx, self.memory.of(hx))
        output, (hidden, cell) = super().forward(input, state)
        self.memory.keep(hidden, cell)
        return output, hidden


class Memory:
    """Remembers which cell state belongs to the hidden state that was given last."""

    last: tuple[torch.Tensor, torch.Tensor] | None = None

    def keep(self, hidden: torch.Tensor, cell: torch.Tensor) -> None:
        """Keep the two; of the hidden state what tells it from another one."""
        self.last = hidden.detach().clone(), cell

    def of(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the cell state of a hidden state, detached if that is; the state itself if new."""
        last, self.last = self.last, None
        if last is None or last[0].device != hidden.device or not torch.equal(last[0], hidden):
            return hidden
        return last[1] if hidden.requires_grad else last[1].detach()

    def __getstate__(self) -> dict[str, Any]:
        return {}
