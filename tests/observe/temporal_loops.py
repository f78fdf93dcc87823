"""Recurrences written by hand, each with its own twin: the states that it went through, kept by the loop itself."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm

INPUTS, WIDTH = 4, 6


class Loop(nn.Module):
    """Collects its states in ``states`` (and ``cells``) when ``keep`` is set; else it keeps nothing."""

    def __init__(self):
        super().__init__()
        self.keep, self.states, self.cells = False, [], []
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        h, c = x.new_zeros(len(x), WIDTH), x.new_zeros(len(x), WIDTH)
        shown = []
        for time in range(x.shape[1]):
            h, c = self.step(x[:, time], h, c)
            if self.keep:
                for store, state in ((self.states, h), (self.cells, c)):
                    if state.requires_grad:
                        store.append(state)
            shown.append(self.head(h))
        return torch.stack(shown, 1)


class Elman(Loop):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH)

    def step(self, x, h, c):
        return torch.tanh(self.x2h(x) + self.h2h(h)), c


class Beside(Loop):
    """Input and state in one matrix, as tutorials have it."""

    def __init__(self):
        super().__init__()
        self.i2h = nn.Linear(INPUTS + WIDTH, WIDTH)

    def step(self, x, h, c):
        return torch.relu(self.i2h(torch.cat((x, h), 1))), c


class Raw(Loop):
    """Parameters of its own, and a state that is masked on its way into the matrix."""

    def __init__(self):
        super().__init__()
        self.W, self.U = (nn.Parameter(torch.randn(n, WIDTH) / n**0.5) for n in (WIDTH, INPUTS))
        self.mask = torch.bernoulli(torch.full((WIDTH,), 0.8)) / 0.8

    def step(self, x, h, c):
        return torch.tanh(x @ self.U + (h * self.mask.to(h)) @ self.W), c


class HandLstm(Loop):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(INPUTS, 4 * WIDTH), nn.Linear(WIDTH, 4 * WIDTH)

    def step(self, x, h, c):
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class HandGru(Loop):
    """A matrix for each gate."""

    def __init__(self):
        super().__init__()
        self.xz, self.xr, self.xn = (nn.Linear(INPUTS, WIDTH) for _ in range(3))
        self.hz, self.hr, self.hn = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def step(self, x, h, c):
        z, r = torch.sigmoid(self.xz(x) + self.hz(h)), torch.sigmoid(self.xr(x) + self.hr(h))
        return z * h + (1 - z) * torch.tanh(self.xn(x) + self.hn(r * h)), c


class Diagonal(Loop):
    """No matrix from state to state: each unit remembers for itself."""

    def __init__(self):
        super().__init__()
        self.decay, self.into = nn.Parameter(torch.rand(WIDTH)), nn.Linear(INPUTS, WIDTH)

    def step(self, x, h, c):
        return self.decay * h + self.into(x), c


class Normed(Loop):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h, self.norm = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def step(self, x, h, c):
        return torch.tanh(self.norm(self.x2h(x) + self.h2h(h))), c


class Behind(Elman):
    """Its recurrent matrix is computed from parameters, anew in each step."""

    def __init__(self, kind):
        super().__init__()
        kind(self.h2h)


class Conv(Loop):
    """A state with axes of its own, and a convolution from state to state."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(INPUTS, WIDTH), nn.Conv1d(2, 2, 3, padding=1)

    def step(self, x, h, c):
        return torch.tanh(self.x2h(x) + self.h2h(h.view(len(x), 2, -1)).flatten(1)), c


class Cells(Loop):
    def __init__(self, kind, **options):
        super().__init__()
        self.cell = kind(INPUTS, WIDTH, **options)

    def step(self, x, h, c):
        if isinstance(self.cell, nn.LSTMCell):
            return self.cell(x, (h, c))
        return self.cell(x, h), c


class Attribute(Loop):
    """Carries its state in an attribute of a module of its own."""

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.x2h, self.h2h, self.state = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH), None

        def forward(self, x):
            before = x.new_zeros(len(x), WIDTH) if self.state is None else self.state
            self.state = torch.tanh(self.x2h(x) + self.h2h(before))
            return self.state

    def __init__(self):
        super().__init__()
        self.memory = self.Memory()

    def forward(self, x):
        self.memory.state = None
        return super().forward(x)

    def step(self, x, h, c):
        return self.memory(x), c


class Stepped(Loop):
    """One call of a fused layer for every step, the state handed on."""

    def __init__(self):
        super().__init__()
        self.rnn, self.last = nn.LSTM(INPUTS, WIDTH), None

    def step(self, x, h, c):
        out, (_, c) = self.rnn(x.unsqueeze(0), self.last)
        self.last = out, c  # handed on and shown are one tensor, so that its gradient is all there is
        return out, c

    def forward(self, x):
        self.last, shown = None, []
        for time in range(x.shape[1]):
            h, _ = self.step(x[:, time], None, None)
            if self.keep:
                self.states.append(h)
            shown.append(self.head(h[0]))
        return torch.stack(shown, 1)


# what is built: name, modules, kind, whether it has cell states (None: the twin does not see them)
LOOPS = {
    "elman": (Elman, "h2h", ("h2h", "x2h"), "loop", False),
    "beside": (Beside, "i2h", ("i2h",), "loop", False),
    "raw": (Raw, "W", ("",), "loop", False),
    "lstm by hand": (HandLstm, "h2h", ("h2h", "x2h"), "loop", True),
    "gru by hand": (HandGru, "hz", ("hz", "hr", "hn", "xn", "xr", "xz"), "loop", False),
    "diagonal": (Diagonal, "", ("", "into"), "loop", False),
    "layer norm": (Normed, "h2h", ("h2h", "norm", "x2h"), "loop", False),
    "attribute": (Attribute, "memory.h2h", ("memory.h2h", "memory.x2h"), "loop", False),
    "weight norm": (lambda: Behind(weight_norm), "h2h", ("h2h", "x2h"), "loop", False),
    "orthogonal": (lambda: Behind(orthogonal), "h2h", ("h2h", "x2h"), "loop", False),
    "convolution": (Conv, "h2h", ("h2h", "x2h"), "loop", False),
    "RNNCell": (lambda: Cells(nn.RNNCell), "cell", ("cell",), "rnn_tanh", False),
    "RNNCell relu": (lambda: Cells(nn.RNNCell, nonlinearity="relu"), "cell", ("cell",), "rnn_relu", False),
    "LSTMCell": (lambda: Cells(nn.LSTMCell), "cell", ("cell",), "lstm", True),
    "GRUCell": (lambda: Cells(nn.GRUCell, bias=False), "cell", ("cell",), "gru", False),
    "fused, step by step": (Stepped, "rnn", ("rnn",), "lstm", None),
}
