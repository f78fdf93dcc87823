"""The recurrent networks of the zoo: a cell that reads a sequence and a head on its last state; loops by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
Pick = Callable[[torch.Tensor], torch.Tensor]


def last(states: torch.Tensor) -> torch.Tensor:
    """Return the state after the last step."""
    return states[:, -1]


class Reader(nn.Module):
    """``cell`` reads the sequence, ``out`` the states that ``pick`` chooses; with ``words``, ``tokens`` embeds them."""

    def __init__(
        self,
        kind: str = "tanh",
        features: int = 4,
        width: int = 32,
        outputs: int = 4,
        *,
        pick: Pick = last,
        words: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        if words:
            self.tokens = nn.Embedding(words, features)
        self.cell = _CELLS[kind](features, width, batch_first=True, **options)
        self.out = nn.Linear((self.cell.proj_size or width) * (1 + self.cell.bidirectional), outputs)
        self.pick, self.words = pick, words

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits from ``(batch, time, features)``, or from ``(batch, time)`` where tokens are embedded."""
        states, _ = self.cell(self.tokens(x) if self.words else x)
        logits: torch.Tensor = self.out(self.pick(states))
        return logits


def weights(model: nn.Module, start: str) -> list[torch.Tensor]:
    """Return the parameters of all cells whose name begins like this, such as ``weight_hh``."""
    return [p for name, p in model.named_parameters() if name.split(".")[-1].startswith(start)]


def recurrent(model: nn.Module, change: Callable[[torch.Tensor], object]) -> nn.Module:
    """Change every square recurrent matrix in place, gate by gate."""
    with torch.no_grad():
        for weight in weights(model, "weight_hh"):
            for square in torch.split(weight, weight.shape[1]):
                change(square)
    return model


def gate(model: nn.Module, index: int, value: float) -> nn.Module:
    """Set the bias of one gate in every layer (LSTM: input, forget, cell, output; GRU: reset, update, new)."""
    width = next(int(module.hidden_size) for module in model.modules() if hasattr(module, "hidden_size"))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, share in (("bias_ih", value), ("bias_hh", 0.0)):
            for bias in weights(model, name):
                bias[index * width : (index + 1) * width] = share
    return model


class Loop(nn.Module):
    """A cell written by hand: ``act(inner(x_t) + carry(h))`` in a Python loop; ``cut`` forgets where h came from."""

    def __init__(
        self,
        features: int = 4,
        width: int = 32,
        outputs: int = 4,
        *,
        act: Callable[[torch.Tensor], torch.Tensor] = torch.tanh,
        cut: int = 0,
    ) -> None:
        super().__init__()
        self.inner, self.carry = nn.Linear(features, width), nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)
        self.act, self.cut = act, cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits after the last step."""
        state = x.new_zeros(len(x), self.carry.in_features)
        for time, step in enumerate(x.unbind(1), start=1):
            state = self.act(self.inner(step) + self.carry(state))
            if self.cut and time % self.cut == 0 and time < x.shape[1]:
                state = state.detach()
        logits: torch.Tensor = self.out(state)
        return logits


class CellLoop(nn.Module):
    """One of torch's single-step cells in a Python loop."""

    def __init__(self, cell: nn.RNNCellBase, outputs: int = 4) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(cell.hidden_size, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits after the last step."""
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        hidden = state[0] if isinstance(state, tuple) else state
        logits: torch.Tensor = self.out(hidden)
        return logits


class Bare(nn.Module):
    """A recurrence over bare parameters, ``h = tanh(x W + h U + b)``, as research code often has it."""

    def __init__(self, features: int = 4, width: int = 32, outputs: int = 4, *, scale: float = 1.0) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(features, width) / features**0.5)
        self.U = nn.Parameter(scale * nn.init.orthogonal_(torch.empty(width, width)))
        self.b = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits after the last step."""
        state = x.new_zeros(len(x), len(self.U))
        for step in x.unbind(1):
            state = torch.tanh(step @ self.W + state @ self.U + self.b)
        logits: torch.Tensor = self.out(state)
        return logits


def identity(factor: float = 1.0) -> Callable[[torch.Tensor], object]:
    """Return the change to a multiple of the identity."""
    return lambda weight: nn.init.eye_(weight).mul_(factor)


def orthogonal(factor: float = 1.0) -> Callable[[torch.Tensor], object]:
    """Return the change to a multiple of a random rotation."""
    return lambda weight: nn.init.orthogonal_(weight).mul_(factor)


def clipped(norm: float = 1.0) -> Callable[[list[torch.Tensor]], object]:
    """Return a clip of the total gradient norm."""
    return lambda parameters: nn.utils.clip_grad_norm_(parameters, norm)


class Packed(Reader):
    """The same over sequences of different lengths, packed; the state after each one's last step is read."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Logits from padded ``(batch, time, features)`` and the lengths."""
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, final = self.cell(packed)
        hidden = final[0] if isinstance(final, tuple) else final
        logits: torch.Tensor = self.out(hidden[-1])
        return logits
