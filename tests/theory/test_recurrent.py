"""Decades a lag against the gradient of a real cell over many steps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from graddoctor.theory.recurrent import edge, recurrences

HIDDEN, STEPS = 96, 60


def measured(cell):
    """Decades a step of the gradient at the inputs, injected at the last step."""
    x = torch.randn(STEPS, 8, 16, dtype=torch.float64, requires_grad=True)
    out = cell.double()(x)[0][-1]
    (g,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    profile = g.flatten(1).norm(dim=1).log10()
    return float(profile[5] - profile[-5]) / (STEPS - 10)


def changed(cell, change):
    with torch.no_grad():
        change(cell)
    return cell


def gates(cell, opening):
    cell.bias_ih_l0[HIDDEN : 2 * HIDDEN] = opening
    cell.bias_hh_l0[HIDDEN : 2 * HIDDEN] = 0.0


CELLS = {
    "tanh": lambda: nn.RNN(16, HIDDEN),
    "relu": lambda: nn.RNN(16, HIDDEN, nonlinearity="relu"),
    "tanh, orthogonal": lambda: changed(nn.RNN(16, HIDDEN), lambda c: nn.init.orthogonal_(c.weight_hh_l0)),
    "tanh, chaotic": lambda: changed(nn.RNN(16, HIDDEN), lambda c: c.weight_hh_l0.normal_(0, 2 / HIDDEN**0.5)),
    "LSTM": lambda: nn.LSTM(16, HIDDEN),
    "LSTM, forget gates open": lambda: changed(nn.LSTM(16, HIDDEN), lambda c: gates(c, 1.0)),
    "GRU": lambda: nn.GRU(16, HIDDEN),
    "GRU, update gates open": lambda: changed(nn.GRU(16, HIDDEN), lambda c: gates(c, 3.0)),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_step_back_costs_what_theory_says(name):
    torch.manual_seed(0)
    cell = CELLS[name]()
    (found,) = recurrences(cell)
    assert found.decades_per_lag == pytest.approx(measured(cell), abs=0.05)


def test_a_gate_that_opens_reaches_further():
    torch.manual_seed(0)
    (shut,), (opened,) = recurrences(CELLS["LSTM"]()), recurrences(CELLS["LSTM, forget gates open"]())
    assert shut.carry == pytest.approx(0.5, abs=0.02)
    assert opened.carry == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)
    assert opened.horizon() > 2 * shut.horizon()
    assert shut.horizon(3.0) == pytest.approx(3 * shut.horizon(1.0))


def test_an_identity_is_no_random_matrix():
    cell = changed(nn.RNN(16, HIDDEN, nonlinearity="relu"), lambda c: nn.init.eye_(c.weight_hh_l0))
    assert math.isnan(recurrences(cell)[0].decades_per_lag)


def test_every_layer_is_told():
    model = nn.ModuleDict({"rnn": nn.GRU(16, 32, num_layers=2)})
    assert [one.name for one in recurrences(model)] == ["rnn layer 0", "rnn layer 1"]


def test_the_edge_of_the_spectrum_is_that_of_a_random_matrix():
    generator = np.random.default_rng(0)
    size, random = 600, 0.04
    carry = generator.uniform(0.2, 0.8, size)
    matrix = np.diag(carry) + generator.normal(0, (random / size) ** 0.5, (size, size))
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(edge(carry, random), abs=0.04)
    assert edge(np.full(3, 0.5), 0.01) == pytest.approx(0.6)
