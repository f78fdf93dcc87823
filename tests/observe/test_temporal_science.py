"""What recurrent networks lose over 100 steps at initialization: known figures, taken again with the look."""

import math

import pytest
import torch
from torch import nn

from graddoctor.observe.temporal import through_time

WIDTH, INPUTS, STEPS = 128, 16, 100


def default(kind):
    return lambda: kind(INPUTS, WIDTH)


def with_recurrent(kind, start):
    def build():
        module = kind(INPUTS, WIDTH)
        with torch.no_grad():
            for block in module.weight_hh_l0.chunk(len(module.weight_hh_l0) // WIDTH):
                start(block)
            module.bias_ih_l0.zero_()
            module.bias_hh_l0.zero_()
        return module

    return build


def with_gate(kind, place, value):
    """Set the sum of the two biases of one gate."""

    def build():
        module = kind(INPUTS, WIDTH)
        with torch.no_grad():
            gate = slice(place * WIDTH, (place + 1) * WIDTH)
            module.bias_ih_l0[gate], module.bias_hh_l0[gate] = value, 0
        return module

    return build


def chrono():
    """Tallec & Ollivier 2018: forget biases log u with u uniform in [1, T - 1], input biases their negatives."""
    module = nn.LSTM(INPUTS, WIDTH)
    with torch.no_grad():
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
        forget = torch.empty(WIDTH).uniform_(1, STEPS - 1).log()
        module.bias_ih_l0[WIDTH : 2 * WIDTH], module.bias_ih_l0[:WIDTH] = forget, -forget
    return module


def irnn():
    """Le et al. 2015: identity, ReLU, no bias."""
    module = nn.RNN(INPUTS, WIDTH, nonlinearity="relu")
    with torch.no_grad():
        nn.init.eye_(module.weight_hh_l0)
        nn.init.normal_(module.weight_ih_l0, std=0.001)
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
    return module


# what is built: decades of dL/dh over 100 steps and how far the mean of three seeds may be from them, decades of dL/dc
CELLS = {
    "tanh, default": (default(nn.RNN), -24.8, 1.5, None),
    "tanh, orthogonal": (with_recurrent(nn.RNN, nn.init.orthogonal_), -5.3, 0.4, None),
    "tanh, variance 4/n": (
        with_recurrent(nn.RNN, lambda w: nn.init.normal_(w, std=2 / math.sqrt(WIDTH))),
        6.5,
        1.0,
        None,
    ),
    "irnn": (irnn, -0.5, 0.2, None),
    "lstm, default": (default(nn.LSTM), -20.5, 0.8, -19.9),
    "lstm, forget bias 1": (with_gate(nn.LSTM, 1, 1.0), -7.8, 0.7, -7.0),
    "lstm, forget bias 3": (with_gate(nn.LSTM, 1, 3.0), -0.3, 0.5, 0.9),
    "lstm, chrono": (chrono, -3.1, 0.3, -0.7),
    "gru, default": (default(nn.GRU), -19.4, 0.8, None),
    "gru, update bias 3": (with_gate(nn.GRU, 1, 3.0), -1.8, 0.2, None),
    "gru, orthogonal": (with_recurrent(nn.GRU, nn.init.orthogonal_), -13.3, 0.5, None),
}


def looks(build):
    for seed in range(3):
        torch.manual_seed(seed)
        (one,) = through_time(build(), lambda net, x: net(x)[0][-1].sum(), torch.randn(STEPS, 4, INPUTS))
        yield one


@pytest.mark.parametrize("name", CELLS)
def test_decades_over_a_hundred_steps(name):
    build, decades, tolerance, cell = CELLS[name]
    found = list(looks(build))
    assert sum(one.decades for one in found) / 3 == pytest.approx(decades, abs=tolerance)
    assert all(one.decades_per_step == pytest.approx(one.decades / (STEPS - 1)) for one in found)
    if cell is not None:
        ledger = [math.log10(one.cell_lag_gradient[-1] / one.cell_lag_gradient[0]) for one in found]
        assert sum(ledger) / 3 == pytest.approx(cell, abs=tolerance)


def test_gates_cure_only_when_they_start_open():
    shut, open_ = next(looks(default(nn.LSTM))), next(looks(with_gate(nn.LSTM, 1, 3.0)))
    assert shut.gates["forget"][-1] == pytest.approx(0.5, abs=0.02)
    assert open_.gates["forget"][-1] == pytest.approx(1 / (1 + math.exp(-3)), abs=0.02)
    assert shut.horizon_1 < 6
    assert open_.horizon_3 is None


def test_an_orthogonal_matrix_has_singular_values_of_the_slopes():
    one = next(looks(with_recurrent(nn.RNN, nn.init.orthogonal_)))
    assert one.spectrum.radius == pytest.approx(1, abs=1e-5)
    assert max(one.spectrum.largest) <= 1 + 1e-6
    assert 0.6 < min(one.spectrum.median) < 1
