"""The slow twin of the temporal look: every cell written out in float64, one sample at a time, autograd for the rest.

Nothing here shares code with graddoctor but the cotangent, which both must send back to be compared.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

from graddoctor.observe._lags import cotangent


def cell(module, suffix, x, h, c):
    """One step of one layer of an nn.RNN, nn.LSTM or nn.GRU, in the equations of torch's documentation."""
    weight = {name: getattr(module, f"{name}{suffix}", None) for name in ("weight_ih", "weight_hh", "weight_hr")}
    bias = [getattr(module, f"{name}{suffix}", None) for name in ("bias_ih", "bias_hh")]
    from_x, from_h = (
        functional.linear(x, weight["weight_ih"], bias[0]),
        functional.linear(h, weight["weight_hh"], bias[1]),
    )
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        i, f, g, o = (from_x + from_h).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        shown = torch.sigmoid(o) * torch.tanh(c)
        return (shown if weight["weight_hr"] is None else shown @ weight["weight_hr"].T), c
    if isinstance(module, nn.GRU | nn.GRUCell):
        (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.chunk(3, -1), from_h.chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return (1 - z) * torch.tanh(x_n + r * h_n) + z * h, None
    act = torch.relu if module.nonlinearity == "relu" else torch.tanh
    return act(from_x + from_h), None


class Twin:
    """All layers and directions of a module on ragged sequences: states by (layer, direction, sample, time)."""

    def __init__(self, module, sequences, states=None, masks=None):
        self.module = copy.deepcopy(module).double()
        self.h, self.c, self.outputs = {}, {}, []
        for sample, sequence in enumerate(sequences):
            rows = list(sequence.double())
            for layer in range(module.num_layers):
                sides = [self._side(layer, side, sample, rows, states) for side in range(1 + module.bidirectional)]
                rows = [torch.cat(pair) for pair in zip(*sides, strict=True)]
                if masks is not None and layer < module.num_layers - 1:
                    rows = [row * masks[layer][time, sample] for time, row in enumerate(rows)]
            self.outputs.append(torch.stack(rows))

    def _side(self, layer, side, sample, rows, states):
        width = self.module.proj_size or self.module.hidden_size
        h, c = torch.zeros(width).double(), torch.zeros(self.module.hidden_size).double()
        if states is not None:
            place = layer * (1 + self.module.bidirectional) + side
            h = states[0][place, sample].double()
            c = states[1][place, sample].double() if len(states) > 1 else c
        found = {}
        for time in range(len(rows))[:: -1 if side else 1]:
            h, c = cell(self.module, f"_l{layer}{'_reverse' if side else ''}", rows[time], h, c)
            h.retain_grad()
            self.h[layer, side, sample, time], found[time] = h, h
            if c is not None:
                c.retain_grad()
                self.c[layer, side, sample, time] = c
        return [found[time] for time in range(len(rows))]

    def lags(self, layer, side):
        """Norm over samples by lag, of h and of c, for a cotangent at every sample's last state."""
        lengths = [len(one) for one in self.outputs]
        order = sorted(range(len(lengths)), key=lambda sample: -lengths[sample])  # the look draws in packed order
        width = self.h[layer, side, 0, 0].numel()
        drawn = cotangent(torch.empty(len(lengths), width, dtype=torch.float32)).double()
        for row, sample in enumerate(order):
            last = 0 if side else lengths[sample] - 1
            state = self.h[layer, side, sample, last]
            wanted = [self.h[layer, side, sample, t] for t in range(lengths[sample])]
            wanted += [self.c[layer, side, sample, t] for t in range(lengths[sample]) if self.c]
            found = torch.autograd.grad(state, wanted, drawn[row], retain_graph=True, allow_unused=True)
            yield_from = [torch.zeros(1) if one is None else one for one in found]
            self._norms(layer, side, sample, lengths[sample], yield_from)
        return self._by_lag("h", lengths, side), self._by_lag("c", lengths, side)

    def _norms(self, layer, side, sample, length, found):
        store = self.__dict__.setdefault("stored", {})
        for time in range(length):
            store["h", sample, time] = found[time].norm().item()
            if self.c:
                store["c", sample, time] = found[length + time].norm().item()

    def _by_lag(self, which, lengths, side):
        if which == "c" and not self.c:
            return []
        values = []
        for lag in range(max(lengths)):
            squares = [
                self.stored[which, sample, lag if side else length - 1 - lag] ** 2
                for sample, length in enumerate(lengths)
                if lag < length
            ]
            values.append((sum(squares) / len(squares)) ** 0.5)
        return values

    def of_loss(self, layer, side):
        """Norm of the gradients that `backward` left at all states of one time step."""
        longest = max(len(one) for one in self.outputs)
        at = [
            [self.h[key].grad for key in self.h if key[:2] == (layer, side) and key[3] == time]
            for time in range(longest)
        ]
        return [sum(float(one.square().sum()) for one in ones if one is not None) ** 0.5 for ones in at]
