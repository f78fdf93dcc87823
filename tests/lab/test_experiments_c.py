"""What the recurrent experiments measure, and the tasks that they learn."""

import math

import pytest
import torch
from torch import nn

from graddoctor.lab import sequences
from graddoctor.lab.experiments import forget_bias, irnn, long_lags


@pytest.mark.parametrize("name", sequences.TASKS)
def test_a_task_can_be_answered_and_its_best_constant_costs_what_is_said(name):
    torch.manual_seed(0)
    task = sequences.TASKS[name]
    inputs, target = task.draw(20_000, 12)
    assert inputs.shape == (20_000, 12, task.inputs)
    if name == "adding":
        answer = (inputs[..., 0] * inputs[..., 1]).sum(dim=1, keepdim=True)
        constant = target.mean().expand_as(target)
        assert inputs[..., 1].sum(dim=1).unique().tolist() == [2.0]
        assert inputs[:, :6, 1].sum(dim=1).unique().tolist() == [1.0]
    else:
        answer = 100 * inputs[:, 0]
        constant = torch.zeros(len(target), task.outputs)
    assert float(task.loss(answer, target)) == pytest.approx(0, abs=1e-6)
    assert float(task.loss(constant, target)) == pytest.approx(task.guess, rel=0.03)


def test_batches_are_new_every_time_and_the_same_for_a_seed():
    recipe = sequences.recipe("recall", lambda inputs: nn.RNN(inputs, 4), 5, seed=0, rate=0.1, steps=3)
    torch.manual_seed(1)
    first, second, third = recipe.batches()
    assert not torch.equal(first[0], second[0])
    torch.manual_seed(1)
    assert torch.equal(next(iter(recipe.batches()))[0], first[0])
    assert not torch.equal(second[0], third[0])


def test_gates_open_as_far_as_they_are_told():
    lstm = sequences.open_gates(nn.LSTM(2, 5), bias=3.0)
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0)[5:10].tolist() == [3.0] * 5
    chrono = sequences.open_gates(nn.LSTM(2, 1000), steps=60)
    bias = (chrono.bias_ih_l0 + chrono.bias_hh_l0).detach()
    assert torch.equal(bias[:1000], -bias[1000:2000])
    assert math.log(40) < float(bias[1000:2000].max()) <= math.log(59)


def test_a_gate_that_is_open_by_f_keeps_f_of_the_gradient():
    shut = forget_bias.measure(0, "gradient", "torch", 0.003)
    opened = forget_bias.measure(0, "gradient", "bias 3", 0.003)
    assert shut["open"] == pytest.approx(0.5, abs=0.03)
    assert opened["open"] == pytest.approx(1 / (1 + math.exp(-3)), abs=0.02)
    assert opened["decades"] - shut["decades"] > 8


def test_the_identity_keeps_the_gradient():
    assert abs(irnn.measure(0, "gradient", "ReLU, identity", 0.003)["decades"]) < 1
    assert irnn.measure(0, "gradient", "tanh", 0.003)["decades"] < -4


def test_gated_cells_lose_as_much_as_science_says():
    torch.manual_seed(0)
    assert long_lags.measure(0, "gradient", "GRU", 100, 0.0)["decades"] == pytest.approx(-19.4, abs=3)
    assert 0 <= long_lags.measure(0, "recall", "tanh", 3, 0.01)["learnt"] <= 1
