"""Loops written by hand, and cells called in loops, against their own states in float64; and what is no loop."""

import copy

import pytest
import torch
from temporal_loops import INPUTS, LOOPS, WIDTH, Elman
from torch import nn

from graddoctor.observe._lags import cotangent
from graddoctor.observe.temporal import through_time

STEPS, SAMPLES = 9, 3


def loss(net, x):
    out = net(x)
    return (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()


def twin(net, x):
    """Gradients of the loss and of the cotangent at the states that a float64 copy of the loop has kept."""
    net = copy.deepcopy(net).double()
    net.keep = True
    value = loss(net, x.double())
    states, cells = net.states, net.cells
    entering = cotangent(torch.empty(SAMPLES, WIDTH)).double().view(states[-1].shape)

    def norms(end, at, *more):
        found = torch.autograd.grad(end, at, *more, retain_graph=True)
        return [float(one.norm()) for one in found]

    root = SAMPLES**0.5
    cells = cells if len(cells) == len(states) else []
    lag = [one / root for one in norms(states[-1], states, entering)][::-1]
    cell = [one / root for one in norms(states[-1], cells, entering)][::-1] if cells else []
    return norms(value, states), lag, cell


def built(name):
    torch.manual_seed(3)
    return LOOPS[name][0](), torch.randn(SAMPLES, STEPS, INPUTS)


@pytest.mark.parametrize("name", LOOPS)
def test_profiles_are_those_of_the_states_that_the_loop_keeps(name):
    net, x = built(name)
    _, called, modules, kind, has_cells = LOOPS[name]
    (one,) = through_time(net, loss, x)
    of_loss, lag, cell = twin(net, x)
    assert one.lag_gradient == pytest.approx(lag, rel=1e-4)
    assert one.loss_gradient == pytest.approx(of_loss, rel=1e-4)
    assert (one.modules[0], set(one.modules), one.kind, one.steps) == (modules[0], set(modules), kind, STEPS)
    assert one.name.startswith(called or "decay")
    if has_cells is not None:
        assert one.cell_lag_gradient == pytest.approx(cell if has_cells else [], rel=1e-4)
    assert one.verified < 1e-5
    assert one.notes == ()


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("lstm by hand", {"gate 1", "gate 2", "gate 3"}),
        ("gru by hand", {"gate 1", "gate 2"}),
        ("LSTMCell", {"forget", "input", "output"}),
        ("GRUCell", {"update", "reset"}),
        ("elman", set()),
    ],
)
def test_gates_are_read_by_step(name, gates):
    net, x = built(name)
    (one,) = through_time(net, loss, x)
    assert set(one.gates) == gates
    assert all(len(values) == STEPS and 0.2 < min(values) < max(values) < 0.8 for values in one.gates.values())
    assert set(one.gate_saturation) == gates
    assert len(one.saturation) == STEPS


def test_the_jacobian_of_a_loop_is_that_of_its_weights_and_slopes():
    net, x = built("elman")
    (one,) = through_time(net, loss, x)
    double = copy.deepcopy(net).double()
    double.keep = True
    double(x.double())
    for place, largest, smallest in zip(one.spectrum.steps, one.spectrum.largest, one.spectrum.smallest, strict=True):
        logs = []
        for sample in (0, SAMPLES // 2):
            slope = 1 - double.states[place + 1][sample].detach() ** 2
            logs.append(torch.linalg.svdvals(slope.unsqueeze(1) * double.h2h.weight.detach()).log())
        values = torch.stack(logs).mean(0).exp()
        assert [largest, smallest] == pytest.approx([float(values[0]), float(values[-1])], rel=1e-4)
    radius = torch.linalg.eigvals(double.h2h.weight.detach()).abs().max()
    assert one.spectrum.radius == pytest.approx(float(radius), rel=1e-4)


class Tied(nn.Module):
    """A deep net whose layers share their weights, ``inject``: into each of which the input goes again."""

    def __init__(self, *, inject, noisy=False):
        super().__init__()
        self.inject, self.noisy = inject, noisy
        self.first, self.again, self.head = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        for _ in range(8):
            extra = self.first(x) if self.inject else 0.0
            h = nn.functional.dropout(torch.tanh(self.again(h) + extra), 0.2 if self.noisy else 0.0) + 0.1 * h
        return self.head(h)


def attention():
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 1))


@pytest.mark.parametrize(
    "net",
    [
        Tied(inject=False),
        Tied(inject=True),
        Tied(inject=False, noisy=True),
        nn.Sequential(*[nn.Linear(INPUTS, INPUTS), nn.Tanh()] * 6),
        nn.Sequential(nn.Linear(INPUTS, 1)),
    ],
    ids=["tied", "tied, input again", "tied, with dropout", "one layer many times", "linear"],
)
def test_depth_is_no_time(net):
    assert through_time(net, lambda net, x: net(x).square().mean(), torch.randn(5, INPUTS)) == ()


class Two(nn.Module):
    """Two layers by hand, one over the other."""

    def __init__(self):
        super().__init__()
        self.lower, self.upper = Elman(), Elman()
        self.between = nn.Linear(3, INPUTS)

    def forward(self, x):
        return self.upper(self.between(self.lower(x)))


def test_two_loops_are_two_readings():
    look = through_time(Two(), loss, torch.randn(SAMPLES, STEPS, INPUTS))
    assert [(one.name, one.modules) for one in look] == [
        ("lower.h2h", ("lower.h2h", "lower.x2h")),
        ("upper.h2h", ("upper.h2h", "upper.x2h")),
    ]


class Decoder(nn.Module):
    """Looks back at what it has read, with its state as the question, at every step."""

    def __init__(self, *, cell):
        super().__init__()
        self.encode, self.ask, self.head = nn.GRU(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.decode = nn.GRUCell(WIDTH, WIDTH) if cell else nn.GRU(WIDTH, WIDTH)

    def forward(self, x):
        memory, h = self.encode(x.transpose(0, 1))
        h, shown = h[0], []
        for _ in range(STEPS):
            found = (torch.softmax((memory * self.ask(h)).sum(2, keepdim=True), 0) * memory).sum(0)
            h = (
                self.decode(found, h)
                if isinstance(self.decode, nn.GRUCell)
                else self.decode(found[None], h[None])[0][0]
            )
            shown.append(self.head(h))
        return torch.stack(shown, 1)


@pytest.mark.parametrize("cell", [True, False])
def test_what_feeds_a_cell_is_no_loop_beside_it(cell):
    look = through_time(Decoder(cell=cell), loss, torch.randn(SAMPLES, STEPS, INPUTS))
    assert {one.name: one.steps for one in look} == {"encode": STEPS, "decode": STEPS}


def test_the_length_of_a_loop_may_depend_on_the_data():
    class Until(Elman):
        def forward(self, x):
            return super().forward(x[:, : 4 + int(x.abs().sum()) % 5])

    torch.manual_seed(0)
    net = Until()
    for _ in range(4):
        x = torch.randn(SAMPLES, STEPS, INPUTS)
        (one,) = through_time(net, loss, x)
        assert one.steps == 4 + int(x.abs().sum()) % 5 == len(one.lag_gradient)
