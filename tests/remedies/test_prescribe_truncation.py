"""Backpropagation is cut where gradients explode over many steps, and gives the same outputs."""

import copy

import pytest
import torch
from pasted import assert_same_when_pasted
from recurrent_networks import Layer, Packed, Spelled, Stepped, remembering
from torch import nn
from torch.nn import functional

from graddoctor.recipe import Recipe
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.recurrent import gate_recurrence
from graddoctor.remedies.plain.truncation import truncate_backpropagation
from graddoctor.remedies.truncation import truncated
from graddoctor.terms import Cause
from graddoctor.train import train

SPIKES = (1.0,) * 50 + (99.0,) * 3


class Echo(nn.Module):
    """Gives back what it heard two steps ago; its gradient doubles in every step."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.RNN(1, 16, batch_first=True), nn.Linear(16, 1)
        nn.init.orthogonal_(self.cell.weight_hh_l0, 2.0)

    def forward(self, x):
        return self.head(self.cell(x)[0])


def echo(steps=100):
    x = torch.randn(320, steps, 1, generator=torch.Generator().manual_seed(0))
    return Recipe(
        model=Echo,
        loss=lambda model, x: functional.mse_loss(model(x)[:, 2:], x[:, :-2]),
        batches=list(x.split(32)),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.03),
        epochs=12,
    )


def test_short_lags_are_learned_over_long_sequences():
    given = echo()
    remedy = truncated(Facts(given, SPIKES))
    sick, cured = train(given), train(remedy(given))
    assert float(sick.losses[-10:].mean()) > 0.6
    assert float(cured.losses[-10:].mean()) < 0.4
    assert remedy.name == "backpropagation cut every 25 steps"
    assert (remedy.causes, remedy.modules) == ((Cause.RECURRENCE,), ("cell",))
    assert truncated(Facts(remedy(given), SPIKES)) is None
    assert_same_when_pasted(given, remedy, steps=3)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_outputs_stay_and_gradients_end_at_the_cut(kind, batch_first):
    layer = kind(2, 4, num_layers=2, batch_first=batch_first)
    x = torch.randn(3, 10, 2).transpose(0, int(not batch_first)).contiguous().requires_grad_()
    expected = layer(x)
    cut = truncate_backpropagation(copy.deepcopy(layer), [""], 4)
    for one in (cut, copy.deepcopy(cut)):
        output, state = one(x)
        assert torch.allclose(output, expected[0], atol=1e-6)
        last, expected_last = (s[0] if isinstance(s, tuple) else s for s in (state, expected[1]))
        assert torch.allclose(last, expected_last, atol=1e-6)
    last.sum().backward()
    reached = x.grad.transpose(0, int(batch_first)).abs().sum((1, 2)) > 0
    assert reached.tolist() == [False] * 8 + [True] * 2


def test_a_gated_cell_can_be_cut_too():
    lstm, x = gate_recurrence(nn.RNN(2, 4), [""], nn.LSTM, steps=9), torch.randn(10, 3, 2)
    expected, _ = lstm(x)
    assert torch.allclose(truncate_backpropagation(lstm, [""], 4)(x)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "steps", "norms"),
    [
        (Layer, 48, (1.0,) * 50),
        (Layer, 30, SPIKES),
        (lambda: Layer(bidirectional=True), 48, SPIKES),
        (Packed, 48, SPIKES),
        (Stepped, 48, SPIKES),
        (Spelled, 48, SPIKES),
    ],
)
def test_quiet_short_and_other_ones_are_not_cut(build, steps, norms):
    given = remembering(build, epochs=1, steps=steps)
    assert truncated(Facts(given, norms)) is None
