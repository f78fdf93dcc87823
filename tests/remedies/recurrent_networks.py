"""Networks that carry a state, in every way that it is done, and a task that takes a memory."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from graddoctor.recipe import Recipe


def recall(steps=24, count=320, seed=0):
    """Which of four classes was shown in the first step; noise in the others, on a channel of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    x = torch.zeros(count, steps, 5)
    x[torch.arange(count), 0, labels] = 1.0
    x[:, 1:, 4] = torch.randn(count, steps - 1, generator=generator)
    return x, labels


class Layer(nn.Module):
    """One of torch's layers, its last output read out."""

    def __init__(self, kind=nn.RNN, size=16, **options):
        super().__init__()
        self.cell = kind(5, size, batch_first=True, **options)
        self.head = nn.Linear(size * (2 if options.get("bidirectional") else 1), 4)

    def forward(self, x):
        output, _ = self.cell(x)
        return self.head(output[:, -1])


class Packed(Layer):
    """The same with packed sequences of several lengths."""

    def forward(self, x):
        lengths = torch.arange(len(x)) % 4 + x.shape[1] - 3
        output, _ = self.cell(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        output, _ = pad_packed_sequence(output, batch_first=True)
        return self.head(output[torch.arange(len(x)), lengths - 1])


class Stepped(nn.Module):
    """A single cell in a loop."""

    def __init__(self, kind=nn.RNNCell, size=16, **options):
        super().__init__()
        self.cell, self.head = kind(5, size, **options), nn.Linear(size, 4)

    def forward(self, x):
        state = None
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Spelled(nn.Module):
    """A cell that is written by hand."""

    def __init__(self, activation=torch.sigmoid, size=16):
        super().__init__()
        self.size, self.activation = size, activation
        self.x2h, self.h2h, self.head = nn.Linear(5, size), nn.Linear(size, size), nn.Linear(size, 4)

    def forward(self, x):
        state = x.new_zeros(len(x), self.size)
        for x_t in x.unbind(1):
            state = self.activation(self.x2h(x_t) + self.h2h(state))
        return self.head(state)


class Joined(nn.Module):
    """A cell that is given input and state in one vector."""

    def __init__(self, size=16):
        super().__init__()
        self.size, self.i2h, self.head = size, nn.Linear(5 + size, size), nn.Linear(size, 4)

    def forward(self, x):
        state = x.new_zeros(len(x), self.size)
        for x_t in x.unbind(1):
            state = torch.tanh(self.i2h(torch.cat([x_t, state], 1)))
        return self.head(state)


class Raw(nn.Module):
    """A cell made of bare parameters."""

    def __init__(self, size=16):
        super().__init__()
        self.u, self.b = nn.Parameter(0.1 * torch.randn(5, size)), nn.Parameter(torch.zeros(size))
        self.w, self.head = nn.Parameter(0.1 * torch.randn(size, size)), nn.Linear(size, 4)

    def forward(self, x):
        state = x.new_zeros(len(x), len(self.b))
        for x_t in x.unbind(1):
            state = torch.tanh(x_t @ self.u + state @ self.w + self.b)
        return self.head(state)


class OwnGates(nn.Module):
    """An LSTM that is written by hand."""

    def __init__(self, size=16):
        super().__init__()
        self.size, self.x2g, self.h2g = size, nn.Linear(5, 4 * size), nn.Linear(size, 4 * size)
        self.head = nn.Linear(size, 4)

    def forward(self, x):
        state = memory = x.new_zeros(len(x), self.size)
        for x_t in x.unbind(1):
            i, f, g, o = (self.x2g(x_t) + self.h2g(state)).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            state = o.sigmoid() * memory.tanh()
        return self.head(state)


def remembering(build=Layer, lr=0.01, epochs=12, steps=24, **changes):
    """A training that takes a memory of so many steps."""
    x, labels = recall(steps)
    parts = {
        "model": build,
        "loss": lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        "batches": list(zip(x.split(32), labels.split(32), strict=True)),
        "optimizer": lambda model: torch.optim.Adam(model.parameters(), lr=lr),
        "epochs": epochs,
    }
    return Recipe(**{**parts, **changes})
