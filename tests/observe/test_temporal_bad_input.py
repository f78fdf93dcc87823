"""What can be wrong or odd about a recurrent network and its batches, and that looking at it leaves no trace."""

import copy
import gc
import math
import random

import numpy as np
import pytest
import torch
from probe_networks import Gpt, mlp, next_word, tokens, vectors
from temporal_loops import INPUTS, WIDTH, Cells, Elman, HandLstm
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import graddoctor as gd
from graddoctor.errors import RecipeError
from graddoctor.observe._lags import cotangent
from graddoctor.observe.temporal import through_time


def last(net, x):
    return net(x)[0][-1].square().sum()


def final(net, x):
    return net(x)[:, -1].square().sum()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_one_step_has_a_reading_without_a_lag(kind):
    (one,) = through_time(kind(3, 5), last, torch.randn(1, 2, 3))
    assert (one.steps, one.lag_gradient) == (1, pytest.approx((1.0,)))
    assert (one.decades, one.decades_per_step, one.horizon_1, one.horizon_3, one.spectrum) == (0, 0, None, None, None)


def test_one_call_of_a_cell():
    (one,) = through_time(Cells(nn.GRUCell), final, torch.randn(2, 1, INPUTS))
    assert (one.steps, one.decades, one.spectrum) == (1, 0, None)


def test_a_sequence_of_no_length_is_torchs_error_not_ours():
    def loss(net, x):
        return net(pack_padded_sequence(x, torch.tensor([3, 0]), enforce_sorted=False))[1].sum()

    net, x = nn.RNN(3, 5), torch.randn(3, 2, 3)
    with pytest.raises(RuntimeError, match="greater than 0"):
        loss(net, x)
    with pytest.raises(RuntimeError, match="greater than 0"):
        through_time(net, loss, x)


def test_no_recurrence_at_all():
    assert through_time(mlp(), lambda net, batch: net(batch[0]).sum(), vectors()) == ()
    look = gd.probe(mlp(), lambda net, batch: net(batch[0]).sum(), [vectors()], through_time=True)
    assert look.temporal == ()
    assert look.trouble == ()


def test_a_probe_looks_through_time_when_asked():
    net, x = nn.GRU(3, 5), torch.randn(6, 2, 3)
    assert gd.probe(net, last, [x]).temporal == ()
    look = gd.probe(net, last, [x, x + 1], through_time=True)
    assert look.temporal == through_time(net, last, x)
    assert look.loss == pytest.approx(float(last(net, x).detach()))


def test_a_loss_that_reaches_no_state():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 5), nn.Linear(3, 1)

        def forward(self, x):
            self.rnn(x)
            return self.head(x)

    (one,) = through_time(Unused(), lambda net, x: net(x).sum(), torch.randn(6, 2, 3))
    assert one.loss_gradient == (0.0,) * 6
    assert one.decades < 0
    (one,) = through_time(nn.GRU(3, 5), lambda net, x: net(x)[0].detach().sum(), torch.randn(6, 2, 3))
    assert one.loss_gradient == (0.0,) * 6


def test_a_detached_state_ends_the_gradient():
    class Truncated(Elman):
        def step(self, x, h, c):
            self.count = getattr(self, "count", 0) + 1
            return super().step(x, h.detach() if self.count == 6 else h, c)

    (one,) = through_time(Truncated(), final, torch.randn(2, 10, INPUTS))
    assert one.steps == 5

    class TruncatedCell(Cells):
        def step(self, x, h, c):
            self.count = getattr(self, "count", 0) + 1
            return self.cell(x, h.detach() if self.count == 6 else h), c

    (one,) = through_time(TruncatedCell(nn.RNNCell), final, torch.randn(2, 10, INPUTS))
    assert one.steps == 5
    assert "of its 10 steps the last 5 hang together" in one.notes[0]


class Stateful(nn.Module):
    """Keeps its state from batch to batch."""

    def __init__(self, *, detach, how="fused"):
        super().__init__()
        self.detach, self.state = detach, None
        self.rnn, self.cell = nn.GRU(INPUTS, WIDTH), Elman()
        self.how = how

    def forward(self, x):
        if self.state is not None and self.detach:
            self.state = self.state.detach()
        if self.how == "fused":
            out, self.state = self.rnn(x, self.state)
            return out[-1]
        h = x.new_zeros(x.shape[1], WIDTH) if self.state is None else self.state
        for row in x:
            h, _ = self.cell.step(row, h, None)
        self.state = h
        return h


@pytest.mark.parametrize("how", ["fused", "by hand"])
@pytest.mark.parametrize("detach", [True, False])
def test_a_state_that_is_kept_between_batches(detach, how):
    net, x = Stateful(detach=detach, how=how), torch.randn(7, 2, INPUTS)
    for _ in range(2):
        before = net.state
        (one,) = through_time(net, lambda net, x: net(x).square().sum(), x)
        assert net.state is before
        assert one.steps == 7
        grows = any("grows from batch to batch" in note for note in one.notes)
        assert grows == (before is not None and not detach)
        net(x).square().sum().backward(retain_graph=True)


def test_gradients_and_losses_that_are_not_finite():
    net = nn.RNN(3, 5, nonlinearity="relu")
    with torch.no_grad():
        net.weight_hh_l0.fill_(math.inf)
    (one,) = through_time(net, last, torch.randn(6, 2, 3))
    assert one.cut == 1
    assert one.decades == 0
    assert math.isnan(one.verified) or one.verified >= 0
    (one,) = through_time(nn.LSTM(3, 5), lambda net, x: last(net, x) * math.nan, torch.randn(6, 2, 3))
    assert all(math.isnan(value) for value in one.loss_gradient)
    assert one.decades < 0
    assert one.verified == 0


def test_a_chain_that_is_cut_by_exact_zeros():
    net = nn.RNN(3, 5, nonlinearity="relu")
    with torch.no_grad():
        net.bias_ih_l0.fill_(-100)
    (one,) = through_time(net, last, torch.randn(6, 2, 3))
    assert one.cut == 1
    assert one.lag_gradient[1:] == (0.0,) * 5
    assert (one.horizon_1, one.horizon_3) == (1, 1)


def test_a_module_that_runs_twice_on_its_own_is_read_at_its_longest():
    def loss(net, x):
        return last(net, x) + last(net, x[:4])

    (one,) = through_time(nn.LSTM(3, 5), loss, torch.randn(9, 2, 3))
    assert one.steps == 9
    assert "is not followed from one to the next" in one.notes[0]


def test_a_loss_must_be_one_number():
    with pytest.raises(RecipeError, match=r"got shape \(5, 2, 4\)"):
        through_time(nn.RNN(3, 4), lambda net, x: net(x)[0], torch.randn(5, 2, 3))
    with pytest.raises(RecipeError, match="got float"):
        through_time(nn.RNN(3, 4), lambda net, x: net(x)[0].sum().item(), torch.randn(5, 2, 3))


def test_what_a_probe_cannot_look_at_is_told():
    def penalty(net, x):
        value = last(net, x)
        (weight,) = torch.autograd.grad(value, [net.weight_hh_l0], create_graph=True)
        return value + weight.square().sum()

    look = gd.probe(nn.RNN(3, 4), penalty, [torch.randn(5, 2, 3)], through_time=True)
    assert look.temporal == ()
    assert "through time could not be looked at" in look.trouble[-1]


def test_half_precision_and_autocast():
    (one,) = through_time(nn.GRU(3, 5).bfloat16(), last, torch.randn(8, 2, 3).bfloat16())
    assert one.decades < 0

    def loss(net, x):
        with torch.autocast("cpu", torch.bfloat16):
            return last(net, x)

    (one,) = through_time(nn.GRU(3, 5), loss, torch.randn(8, 2, 3))
    assert one.decades < 0


RUNS = {
    "fused": (
        lambda: nn.LSTM(INPUTS, WIDTH, 2, dropout=0.3, bidirectional=True),
        last,
        lambda: torch.randn(6, 3, INPUTS),
    ),
    "by hand": (HandLstm, final, lambda: torch.randn(3, 6, INPUTS)),
    "cells": (lambda: Cells(nn.LSTMCell), final, lambda: torch.randn(3, 6, INPUTS)),
    "stateful": (lambda: Stateful(detach=True), lambda n, x: n(x).sum(), lambda: torch.randn(6, 3, INPUTS)),
    "gpt": (Gpt, next_word, tokens),
}


def train(build, loss, make, *, looked):
    torch.manual_seed(0)
    net, batches = build(), [make() for _ in range(4)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for batch in batches:
        if looked:
            through_time(net, loss, batch)
        optimizer.zero_grad()
        loss(net, batch).backward()
        if looked:
            through_time(net, loss, batch)
        optimizer.step()
    return [*net.parameters(), *net.buffers(), torch.rand(3)]


@pytest.mark.parametrize("name", RUNS)
def test_training_is_bit_identical_with_looks_in_between(name):
    bare, looked = train(*RUNS[name], looked=False), train(*RUNS[name], looked=True)
    assert all(torch.equal(one, other) for one, other in zip(bare, looked, strict=True))


class Careless(Elman):
    """Changes about everything that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(INPUTS))
        self.calls, self.memory = 0, torch.zeros(4)

    def forward(self, x):
        self.calls += 1
        self.memory.add_(1)
        self.mean += x.detach().mean((0, 1))
        x[0] = random.random() + np.random.rand()  # noqa: NPY002, S311
        with torch.no_grad():
            self.h2h.weight.clamp_(-0.1, 0.1)
        return super().forward(x)


def test_everything_is_as_it_was():
    net, x = Careless(), torch.randn(3, 6, INPUTS)
    net.x2h.weight.grad = torch.ones_like(net.x2h.weight)
    before, batch = copy.deepcopy(vars(net) | net.state_dict()), x.clone()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    hooks = dict(net._forward_hooks), dict(net._forward_pre_hooks)
    through_time(net, final, x)
    assert torch.equal(x, batch)
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    assert (net.calls, net.memory.tolist()) == (0, [0] * 4)
    assert torch.equal(net.x2h.weight.grad, torch.ones_like(net.x2h.weight))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert hooks == (dict(net._forward_hooks), dict(net._forward_pre_hooks))
    assert "forward" not in vars(net)


@pytest.mark.parametrize("name", RUNS)
def test_no_state_and_no_graph_is_kept(name):
    build, loss, make = RUNS[name]
    net, batch = build(), make()
    through_time(net, loss, batch)
    gc.collect()
    before = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
    through_time(net, loss, batch)
    gc.collect()
    assert sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()) == before


def test_attention_is_read_at_its_inputs():
    batch = tokens(samples=4, length=6)
    (one,) = through_time(Gpt(), next_word, batch)
    assert (one.kind, one.source, one.steps, len(one.lag_gradient)) == ("attention", "input", 6, 6)
    assert one.spectrum is None


def test_the_light_reading_is_the_gradient_at_the_inputs():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x, mask = torch.randn(3, 7, 8), nn.Transformer.generate_square_subsequent_mask(7)
    (one,) = through_time(layer, lambda net, x: net(x, src_mask=mask).pow(3).sum(), x)
    double, x = copy.deepcopy(layer).double(), x.double().requires_grad_()
    out = double(x, src_mask=mask.double())
    (lag,) = torch.autograd.grad(out[:, -1], x, cotangent(torch.empty(3, 8)).double(), retain_graph=True)
    (loss,) = torch.autograd.grad(out.pow(3).sum(), x)
    expected = (lag.square().sum(-1).mean(0).sqrt()).flip(0).tolist()
    assert one.lag_gradient == pytest.approx(expected, rel=1e-4)
    assert one.loss_gradient == pytest.approx(loss.norm(dim=(0, 2)).tolist(), rel=1e-4)
    assert one.name == "input"
