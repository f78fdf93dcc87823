"""Samples that become alike with depth, and gradients that neighbouring inputs do not share."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cosine_similarity

from graddoctor.observe.alike import NEARBY, alike


def plain(layers, *, skip=False, norm=False, width=64):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width) if norm else nn.Identity()
            nn.init.kaiming_normal_(self.fc.weight)
            nn.init.zeros_(self.fc.bias)

        def forward(self, x):
            made = torch.relu(self.norm(self.fc(x)))
            return x + made * layers**-0.5 if skip else made

    torch.manual_seed(0)
    return nn.Sequential(*(Layer() for _ in range(layers)), nn.Linear(width, 1))


def loss(model, batch):
    return model(batch).square().mean()


def batch(samples=16, width=64):
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(1))


def test_against_a_plain_computation():
    model, x = plain(3).double(), batch().double()
    (reading,) = alike(model, loss, x, ["1"])
    values = model[:2](x).detach()
    pairs = [float(cosine_similarity(values[i], values[j], dim=0)) for i in range(16) for j in range(16) if i != j]
    assert reading.similarity == pytest.approx(sum(pairs) / len(pairs), rel=1e-9)
    spectrum = torch.linalg.svdvals(values - values.mean(0)) ** 2
    assert reading.rank == pytest.approx(float(spectrum.sum() ** 2 / spectrum.square().sum()), rel=1e-9)

    def gradient(inputs):
        inside = model[:2](inputs).detach().requires_grad_()
        return torch.autograd.grad(model[2:](inside).square().mean(), inside)[0]

    moved = x + NEARBY * (x.roll(1, 0) - x)
    shared = cosine_similarity(gradient(x), gradient(moved), dim=1).mean()
    assert reading.shared == pytest.approx(float(shared), rel=1e-9)


def test_samples_become_alike_with_depth():
    first, last = alike(plain(30), loss, batch(), ["0", "29"])
    assert last.similarity > 0.9 > first.similarity + 0.3
    assert last.rank < 4 < first.rank


def test_gradients_shatter_under_normalization_without_skips():
    """Balduzzi et al. 2017."""
    shattered, smooth = (alike(plain(40, norm=True, skip=skip), loss, batch(64), ["0"])[0] for skip in (False, True))
    assert shattered.shared < 0.35 < smooth.shared


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 10.0), st.permutations(range(8)))
def test_neither_scale_nor_order_of_the_samples_matters(scale, order):
    x, model = batch(8), nn.Sequential(nn.Identity(), nn.Linear(64, 1))
    (one,), (other,) = (alike(model, loss, given, ["0"]) for given in (x, scale * x[order]))
    assert other.similarity == pytest.approx(one.similarity, abs=1e-6)
    assert other.rank == pytest.approx(one.rank, rel=1e-4)


def test_nothing_is_left_changed():
    model, x = plain(4, norm=True), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, kept = torch.get_rng_state(), x.clone()
    alike(model, loss, x, ["1", "2"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_said_is_not_a_number():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = nn.Embedding(5, 8), nn.Linear(8, 1)

        def forward(self, tokens):
            return self.out(self.table(tokens))

    (tokens,) = alike(Embedded(), loss, torch.tensor([1, 2, 3]), ["table"])
    assert math.isnan(tokens.shared)
    assert -1 <= tokens.similarity <= 1
    (same,) = alike(plain(2), loss, torch.ones(4, 64), ["0"])
    assert (same.similarity, math.isnan(same.rank)) == (pytest.approx(1.0), True)
    (lone,) = alike(plain(2), loss, torch.ones(1, 64), ["0"])
    assert math.isnan(lone.similarity)
