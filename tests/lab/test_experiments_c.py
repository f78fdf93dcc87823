"""What the recurrent experiments measure, and the tasks that they learn."""

import math

import pytest
import torch
from torch import nn

from graddoctor.lab import sequences
from graddoctor.lab.experiments import copying, forget_bias, irnn, long_lags, temporal_order


@pytest.mark.parametrize("name", sequences.TASKS)
def test_a_task_can_be_answered_and_its_best_constant_costs_what_is_said(name):
    torch.manual_seed(0)
    task = sequences.TASKS[name]
    inputs, target = task.draw(20_000, 12)
    assert inputs.shape == (20_000, 12 + (2 * task.answers if task.answers > 1 else 0), task.inputs)
    if name == "temporal order":
        told = inputs[..., :2]
        assert told[:, 1:3].sum(dim=(1, 2)).unique().tolist() == [1.0]
        assert told[:, 4:7].sum(dim=(1, 2)).unique().tolist() == [1.0]
        assert told.sum(dim=(1, 2)).unique().tolist() == [2.0]
        answer = 100 * torch.eye(4)[2 * told[:, 1:3, 1].sum(dim=1).long() + told[:, 4:7, 1].sum(dim=1).long()]
        constant = torch.zeros(len(target), task.outputs)
    elif name == "copying":
        assert torch.equal(
            inputs[:, task.answers : -task.answers, sequences.COPIED].sum(dim=1), torch.full((20_000,), 12.0)
        )
        assert inputs[:, -task.answers :, -1].min() == 1
        answer = 100 * inputs[:, : task.answers, : sequences.COPIED].transpose(1, 2)
        constant = torch.zeros(len(target), task.outputs, task.answers)
    elif name == "adding":
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


def test_what_stands_near_the_start_and_before_the_middle_is_asked_for():
    torch.manual_seed(0)
    inputs, _ = sequences.TASKS["temporal order"].draw(2_000, 50)
    places = inputs[..., :2].sum(dim=2)
    first, second = places.argmax(dim=1), 49 - places.flip(1).argmax(dim=1)
    assert (int(first.min()), int(first.max())) == (5, 10)
    assert (int(second.min()), int(second.max())) == (20, 25)


def test_as_many_answers_as_symbols():
    task = sequences.TASKS["copying"]
    model = sequences.AtTheEnd(nn.GRU(task.inputs, 6, batch_first=True), task.outputs, task.answers)
    inputs, target = task.draw(5, 7)
    answers = model(inputs)
    assert answers.shape == (5, task.outputs, 3)
    assert target.shape == (5, 3)
    assert torch.allclose(answers[:, :, -1], model.output(model.cell(inputs)[0][:, -1]))


def test_clipping_brings_back_no_gradient_and_a_penalty_does():
    arm, ways = {"start": "torch", "lag": 20, "rate": 0.1, "steps": 30}, {}
    for way in temporal_order.WAYS:
        torch.manual_seed(0)
        ways[way] = temporal_order.measure(0, way=way, **arm)
    assert len({measured["begins"] for measured in ways.values()}) == 1
    assert ways["clipped"]["ends"] < -3
    assert ways["clipped, penalty"]["ends"] > -2


def test_open_gates_keep_the_gradient_of_what_is_copied():
    kept = {net: copying.measure(0, net=net, lag=30, rate=0.01, steps=1) for net in copying.CELLS}
    assert kept["LSTM, gates open"]["decades"] - kept["LSTM"]["decades"] > 3
    assert all(0 <= measured["learnt"] < 0.1 for measured in kept.values())
