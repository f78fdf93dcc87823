"""The look through time on code as users write it: what stands between cells, hooks, checkpoints, odd data."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import graddoctor as gd
from graddoctor.observe._lags import cotangent
from graddoctor.observe.temporal import through_time


class Stepped(nn.Module):
    """An RNN cell in a loop with something between its output and the next step."""

    def __init__(self, between, kind=nn.RNNCell):
        super().__init__()
        self.cell, self.between = kind(3, 8), between

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 8)
        for time, row in enumerate(x):
            h = self.between(time, h, self.cell(row, h))
        return h


def squares(model, x):
    return model(x).square().sum()


def by_autograd(model, x):
    """Norms at every state of a cotangent of what the last cell made, from the last to the first."""
    states, h = [], x.new_zeros(x.shape[1], 8)
    for time, row in enumerate(x):
        made = model.cell(row, h)
        h = model.between(time, h, made)
        states.append(h)
    found = torch.autograd.grad(made, states[:-1], cotangent(made))
    return [1.0, *(float(one.norm(dim=1).square().mean().sqrt()) for one in reversed(found))]


@pytest.mark.parametrize("share", [1e-3, 0.5])
def test_a_skip_around_a_cell_is_part_of_the_state(share):
    torch.manual_seed(0)
    model, x = Stepped(lambda _, h, new: h + share * new), torch.randn(20, 4, 3)
    (look,) = through_time(model, squares, x)
    assert look.lag_gradient == pytest.approx(by_autograd(model, x), rel=1e-4)
    assert max(look.spectrum.largest) == pytest.approx(1, abs=0.9 * share + 0.01)


def test_samples_that_have_ended_keep_their_state():
    torch.manual_seed(0)
    ended = torch.full((4, 1), 6)
    model = Stepped(lambda time, h, new: torch.where(time < ended, new, h))
    (look,) = through_time(model, squares, torch.randn(12, 4, 3))
    assert look.cut is None
    assert all(one > 0 for one in look.lag_gradient)
    assert look.lag_gradient[1] == pytest.approx(look.lag_gradient[5])  # nothing is lost where nothing runs


@pytest.mark.parametrize("layers", [1, 2])
def test_steps_that_are_computed_again_on_the_way_back(layers):
    torch.manual_seed(0)
    module, x = nn.GRU(3, 8, layers), torch.randn(12, 2, 3)

    def pieces(net, x, again):
        h = x.new_zeros(layers, 2, 8)
        for piece in x.split(4):
            out, h = checkpoint(net, piece, h, use_reentrant=False) if again else net(piece, h)
        return out[-1].square().sum()

    plain, again = (
        through_time(module, lambda net, x, again=again: pieces(net, x, again), x) for again in (False, True)
    )
    assert [one.lag_gradient for one in again] == [pytest.approx(one.lag_gradient) for one in plain]


class ByHand(nn.Module):
    def __init__(self, hook=None):
        super().__init__()
        self.into, self.back, self.hook = nn.Linear(3, 8), nn.Linear(8, 8), hook
        nn.init.orthogonal_(self.back.weight)

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 8)
        for row in x:
            h = torch.tanh(0.1 * self.into(row) + self.back(h))
            if self.hook is not None and h.requires_grad:
                h.register_hook(self.hook)
        return h


def test_hooks_that_look_at_numbers_or_clip():
    x, norms = torch.randn(10, 4, 3), []
    torch.manual_seed(0)
    (plain,) = through_time(ByHand(), squares, x)
    for hook in (lambda g: norms.append(g.norm().item()), lambda g: g.clamp(-1, 1)):
        torch.manual_seed(0)
        (look,) = through_time(ByHand(hook), squares, x)
        assert look.lag_gradient == pytest.approx(plain.lag_gradient, rel=1e-3)
        assert look.spectrum is not None
    assert norms


def test_a_gradient_that_vanishes_at_once_is_not_called_infinite():
    module = nn.RNN(3, 8)
    nn.init.normal_(module.weight_hh_l0, std=3e-11)
    (look,) = through_time(module, lambda net, x: net(x)[0][-1].square().sum(), torch.randn(30, 4, 3))
    assert all(math.isfinite(one) for one in look.lag_gradient)
    assert look.decades < -45


def test_a_graph_in_the_loop_may_be_sparse():
    nodes = torch.eye(6).to_sparse()

    class Spread(ByHand):
        def forward(self, x):
            h = x.new_zeros(6, 8)
            for row in x:
                h = torch.tanh(self.into(row) + self.back(torch.sparse.mm(nodes, h)))
            return h

    (look,) = through_time(Spread(), squares, torch.randn(5, 6, 3))
    assert look.steps >= 4


def test_a_block_used_again_with_a_mask_made_anew_is_depth():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

        def block(self, x):
            mask = torch.triu(torch.ones(x.shape[1], x.shape[1]), 1).bool()
            weights = (self.q(x) @ x.transpose(1, 2)).masked_fill(mask, -math.inf).softmax(-1)
            return x + self.out(weights @ x)

        def forward(self, x):
            for _ in range(6):
                x = self.block(x)
            return x

    assert [one.kind for one in through_time(Tied(), squares, torch.randn(4, 7, 8))] == ["attention"]


def test_attention_that_is_called_by_names():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = self.embed(x)
            return self.out(functional.scaled_dot_product_attention(query=x, key=x, value=x))

    found = gd.probe(Named(), squares, [torch.randint(9, (4, 7))], through_time=True)
    assert [one.kind for one in found.temporal] == ["attention"]
    assert found.trouble == ()


def test_a_fault_of_the_further_look_costs_the_first_nothing(monkeypatch):
    monkeypatch.setattr("graddoctor.observe.temporal.through_time", lambda *_: next(iter(())))
    found = gd.probe(nn.Linear(3, 1), squares, [torch.randn(4, 3)], through_time=True)
    assert found.parameters
    assert "could not be looked at" in found.trouble[0]


def test_no_samples_have_no_time():
    assert through_time(nn.GRU(3, 5), lambda net, x: net(x)[0].sum(), torch.randn(4, 0, 3)) == ()


def test_rounding_of_short_numbers_is_no_difference():
    module = nn.LSTM(8, 64).bfloat16()
    (look,) = through_time(module, lambda net, x: net(x)[0].square().mean(), torch.randn(20, 4, 8).bfloat16())
    assert look.notes == ()


@pytest.mark.parametrize("kind", ["layer", "cell", "by hand", "attention"])
def test_whatever_device_new_tensors_are_made_on(kind):
    model, loss = {
        "layer": lambda: (nn.LSTM(3, 8, 2), lambda net, x: net(x)[0][-1].square().sum()),
        "cell": lambda: (Stepped(lambda _, h, new: new), squares),
        "by hand": lambda: (ByHand(), squares),
        "attention": lambda: (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), squares),
    }[kind]()
    x = torch.randn(6, 5, 8 if kind == "attention" else 3)
    torch.set_default_device("meta")
    try:
        found = gd.probe(model, loss, [x], through_time=True)
    finally:
        torch.set_default_device("cpu")
    assert found.temporal
    assert found.trouble == ()
