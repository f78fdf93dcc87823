"""Slabs of taps: silence of units, slopes of all nonlinear modules, spread of few samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graddoctor.observe.modules import kind_of_module, nonlinearity_of, tappable
from graddoctor.observe.ring import WINDOW, Silence
from graddoctor.observe.stream import Stream
from graddoctor.recording import Recording, Stage

MODULES = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.ELU(), nn.CELU(0.7), nn.SELU(), nn.GELU(), nn.SiLU(), nn.Mish(),
    nn.Softplus(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.LogSigmoid(),
    nn.Softsign(),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_slopes_are_those_of_autograd(module):
    torch.manual_seed(0)
    first = nn.Linear(4, 4)
    nn.init.normal_(first.weight, std=2.0)
    model = nn.Sequential(first, module, nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    x = torch.randn(8, 4)
    model(x).sum().backward()
    optimizer.step()
    stream.close()
    inputs = first(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(module(inputs).sum(), inputs)
    function = nonlinearity_of(module)[0]
    expected = (slope / function.steepest).square().mean().item()
    assert recording.series("1", Stage.ACTIVATION, "slope").values[0] == pytest.approx(expected, rel=1e-4)
    bounded = (slope.abs() / function.steepest < 0.1).double().mean().item() if function.bounded else 0.0
    assert recording.series("1", Stage.ACTIVATION, "saturated").values[0] == pytest.approx(bounded, abs=1e-6)


def test_softmax_is_saturated_where_one_probability_is_nearly_one():
    model = nn.Sequential(nn.Linear(4, 5), nn.Softmax(-1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([50.0, 0, 0, 0, 0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    model(torch.ones(8, 4)).square().sum().backward()
    optimizer.step()
    stream.close()
    assert recording.series("1", Stage.ACTIVATION, "saturated").values.tolist() == [1.0]


def test_a_unit_that_was_active_within_the_window_is_alive():
    silence = Silence(2)
    active = torch.zeros(2 * WINDOW, 2, dtype=torch.bool)
    active[0, 0] = True
    dead = silence.follow(active, torch.ones(2 * WINDOW, dtype=torch.bool)).tolist()
    assert dead[0] == 0.5  # unit 1 was silent in all that was seen
    assert dead[WINDOW - 1] == 0.5
    assert dead[WINDOW] == 1.0  # unit 0 has now been silent for a whole window


def test_steps_that_were_not_read_do_not_count():
    silence = Silence(1)
    assert silence.follow(torch.tensor([[True], [False]]), torch.tensor([True, False])).tolist() == [0.0, 0.0]


def test_which_modules_are_tapped():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Tanh()), nn.MultiheadAttention(2, 1))
    nn.utils.parametrizations.weight_norm(model[0])
    names = [name for name, _ in tappable(model)]
    assert names == ["0", "2.0", "3", "3.out_proj"]


def test_kinds():
    from transformers.activations import NewGELUActivation  # noqa: PLC0415  # slow to import

    assert [kind_of_module(m) for m in (nn.Conv2d(1, 1, 1), nn.ReLU6(), NewGELUActivation(), nn.LayerNorm(2))] == [
        "convolution", "relu6", "gelu", "layernorm",
    ]  # fmt: skip


def test_spread_of_equal_samples_is_zero_and_of_different_ones_right():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    recording = Recording()
    stream = Stream(model, optimizer, recording)
    torch.manual_seed(0)
    different = torch.randn(200, 4)
    for x in (torch.ones(200, 4), *[different] * 30):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    stream.close()
    spread = recording.series("1", Stage.ACTIVATION, "spread").values
    h = model[1](model[0](different)).detach()
    assert spread[0] == 0.0
    assert spread[1:].mean() == pytest.approx((h - h.mean(0)).square().mean().sqrt().item(), rel=0.1)
