"""Recurrent layers that are normalised in each step: saturated gates learn, and without the norms all is as before."""

import copy

import pytest
import torch
from pasted import assert_same_when_pasted
from recurrent_networks import Layer, Packed, Spelled, Stepped, remembering
from torch import nn
from torch.nn import functional

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import gated_cell
from graddoctor.remedies.normalised_cells import normalised_cell
from graddoctor.remedies.plain.normalised_cells import normalise_cells
from graddoctor.terms import Cause
from graddoctor.train import train

LAYERS = [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {}), (nn.GRU, {})]


class Loud(Layer):
    """Its gates are saturated, by inputs of a hundred times the usual scale."""

    def forward(self, x):
        return super().forward(100 * x)


def loud(kind, seed):
    return remembering(lambda: Loud(kind), steps=12, epochs=18, seed=seed)


def final(outcome):
    return float(outcome.losses[-10:].mean())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_saturated_gates_learn(kind):
    given = loud(kind, seed=20)
    remedy = normalised_cell(Facts(given))
    assert final(train(remedy(given))) < 0.8 * final(train(given))


@pytest.mark.parametrize(("kind", "count"), [(nn.RNN, 16), (nn.LSTM, 6 * 16), (nn.GRU, 3 * 16)])
def test_the_remedy_tells_what_it_costs_and_can_be_pasted(kind, count):
    given = loud(kind, 0)
    remedy = normalised_cell(Facts(given))
    assert remedy.name == "LayerNorm in 1 recurrent layer"
    assert (remedy.causes, remedy.modules) == ((Cause.NORMALIZATION,), ("cell",))
    assert remedy.cost == f"{count} parameters, steps that are unrolled one by one"
    assert normalised_cell(Facts(remedy(given))) is None
    assert_same_when_pasted(given, remedy, steps=3)


def state_of(layer, batch, *, given=True):
    state = torch.randn(layer.num_layers, *batch, layer.hidden_size, dtype=torch.float64)
    return None if not given else (state, -state) if isinstance(layer, nn.LSTM) else state


def flat(result):
    output, state = result
    return [output, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize(("kind", "options"), LAYERS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_without_its_norms_the_layer_is_that_of_torch(kind, options, bias, batch_first, given):
    layer = kind(3, 5, num_layers=2, bias=bias, batch_first=batch_first, **options).double()
    unrolled = normalise_cells(copy.deepcopy(layer), [""])
    for norms in unrolled.norms:
        norms.update({name: nn.Identity() for name in norms})
    for shape, batch in (((4, 7, 3), (4 if batch_first else 7,)), ((7, 3), ())):
        x, state = torch.randn(shape, dtype=torch.float64), state_of(layer, batch, given=given)
        for one, expected in zip(flat(unrolled(x, state)), flat(layer(x, state)), strict=True):
            assert one.shape == expected.shape
            assert torch.allclose(one, expected, atol=1e-12)


def standardised(vector):
    return (vector - vector.mean()) / (vector.var(correction=0) + 1e-5).sqrt()


def slow_step(layer, x, hidden, memory):
    """One step on one sample, gate by gate."""
    size = layer.hidden_size
    rows = [slice(k * size, (k + 1) * size) for k in range(len(layer.weight_hh_l0) // size)]
    ins = [layer.weight_ih_l0[r] @ x for r in rows]
    backs = [layer.weight_hh_l0[r] @ hidden for r in rows]
    first, second = ([b[r] for r in rows] for b in (layer.bias_ih_l0, layer.bias_hh_l0))
    gains = layer.norms[0]["gates"].weight.split(size)  # of a GRU two, its candidate has another norm
    total = [g * standardised(i + b) + p + q for g, i, b, p, q in zip(gains, ins, backs, first, second, strict=False)]
    if isinstance(layer, nn.RNN):
        return total[0].tanh()
    if isinstance(layer, nn.LSTM):
        memory = total[1].sigmoid() * memory + total[0].sigmoid() * total[2].tanh()
        norm = layer.norms[0]["memory"]
        return total[3].sigmoid() * (norm.weight * standardised(memory) + norm.bias).tanh()
    reset, kept = total[0].sigmoid(), total[1].sigmoid()
    summed = ins[2] + reset * (backs[2] + second[2])
    new = (layer.norms[0]["candidate"].weight * standardised(summed) + first[2]).tanh()
    return (1 - kept) * new + kept * hidden


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_each_step_is_normalised_gate_by_gate(kind):
    layer = normalise_cells(kind(3, 5).double(), [""])
    for parameter in layer.norms.parameters():
        nn.init.normal_(parameter)
    x, state = torch.randn(1, 2, 3, dtype=torch.float64), state_of(layer, (2,))
    hidden, memory = state if kind is nn.LSTM else (state, state)
    expected = [slow_step(layer, x[0, k], hidden[0, k], memory[0, k]) for k in range(2)]
    assert torch.allclose(layer(x, state)[0][0], torch.stack(expected), atol=1e-12)


def test_names_stay_copies_are_copies_and_dropout_is_between_the_layers():
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    known = dict(layer.named_parameters())
    normalise_cells(layer, [""])
    assert all(dict(layer.named_parameters())[name] is parameter for name, parameter in known.items())
    twin, x = copy.deepcopy(layer), torch.randn(9, 2, 3)
    nn.init.zeros_(twin.norms[0]["gates"].weight)
    assert not torch.equal(twin.eval()(x)[0], layer.eval()(x)[0])
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.train()
    assert not torch.equal(layer(x)[0], layer(x)[0])
    (_, lower), (_, again) = (layer(x)[1] for _ in range(2))
    assert torch.equal(lower[0], again[0])


def test_a_forget_bias_still_opens_its_gate():
    layer = nn.LSTM(3, 4)
    with torch.no_grad():
        layer.bias_ih_l0[4:8] = 20.0
        layer.bias_ih_l0[:4] = -20.0
    normalise_cells(layer, [""])
    state = torch.randn(1, 2, 4)
    _, (_, memory) = layer(torch.randn(9, 2, 3), (state, state))
    assert torch.allclose(memory, state, atol=1e-4)


class Projected(nn.Module):
    """An LSTM whose state is smaller than its memory."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(5, 16, proj_size=4, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0][:, -1]


class Frozen(Layer):
    """Its recurrent layer is not trained."""

    def __init__(self):
        super().__init__()
        self.cell.requires_grad_(False)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Layer(bidirectional=True),
        Projected,
        Packed,
        Stepped,
        Spelled,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(24 * 5, 4)),
        Frozen,
    ],
)
def test_other_networks_are_left_alone(build):
    assert normalised_cell(Facts(remembering(build, epochs=1))) is None


def test_an_unrolled_layer_is_still_one_layer():
    given = remembering(epochs=1)
    treated = Facts(normalised_cell(Facts(given))(given))
    assert [(one.name, one.kind) for one in treated.carriers] == [("cell", nn.RNN)]
    assert gated_cell(treated).modules == ("cell",)


def test_gains_are_trained():
    layer = normalise_cells(nn.GRU(3, 4), [""])
    functional.mse_loss(layer(torch.randn(5, 2, 3))[0], torch.zeros(5, 2, 4)).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in layer.norms.parameters())
