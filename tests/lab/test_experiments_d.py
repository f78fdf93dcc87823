"""What the experiments on depth and architecture measure."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from graddoctor.lab.experiments import (
    convolution,
    degradation,
    edge_of_stability,
    fixup,
    shattered_gradients,
    skip_connections,
    warm_up,
)


@pytest.fixture(autouse=True)
def drawn():
    torch.manual_seed(0)


def test_convolutions_lose_what_dense_layers_lose():
    lost = {kind: convolution.measure(0, "start", kind, 12)["decades"] for kind in ("dense", "circular")}
    assert lost["circular"] == pytest.approx(lost["dense"], abs=0.25)
    assert lost["dense"] < -2


def test_branches_double_the_square_of_the_gradient():
    grown = [skip_connections.measure(0, "start", "full branches", "relu", size)["decades"] for size in (4, 12)]
    assert (grown[1] - grown[0]) / 8 == pytest.approx(math.log10(2) / 2, abs=0.03)
    scaled = skip_connections.measure(0, "start", "branches / sqrt(blocks)", "relu", 12)["decades"]
    assert abs(scaled) < 0.4


def test_gradients_of_neighbours():
    shattered = shattered_gradients.measure(0, "normalized", 24)
    assert shattered["correlation"][0] == pytest.approx(1)
    assert abs(shattered["neighbours"]) < 0.3
    assert shattered_gradients.measure(0, "residual", 24)["neighbours"] > 0.4


def test_the_autocorrelation_is_numpys():
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    line = torch.linspace(-2, 2, shattered_gradients.POINTS)[:, None].requires_grad_()
    (gradient,) = torch.autograd.grad(model(line).sum(), line)
    centred = gradient[:, 0].double().numpy() - float(gradient.double().mean())
    expected = [np.mean(centred[: len(centred) - lag] * centred[lag:]) / np.mean(centred**2) for lag in range(16)]
    assert shattered_gradients._autocorrelation(model) == pytest.approx(expected)


def test_fixup_begins_as_the_identity():
    model = fixup.network("fixup")
    images = torch.randn(6, 64)
    assert torch.equal(model(images), torch.zeros(6, 10))
    assert torch.equal(model[:-1](images), torch.relu(model[0](images)))


@pytest.mark.parametrize("net", ["plain", "residual"])
def test_depth_counts_layers_of_weights(net):
    for depth in (degradation.SHALLOW, degradation.DEEP):
        layers = [one for one in degradation.network(net, depth).modules() if isinstance(one, nn.Linear)]
        assert len(layers) == depth


def test_sharpness_is_the_largest_eigenvalue():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    torch.manual_seed(1)
    batch = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])

    def of(flat):
        parts = torch.split(flat, [p.numel() for p in model.parameters()])
        named = zip(model.named_parameters(), parts, strict=True)
        changed = {name: part.view_as(p) for (name, p), part in named}
        return edge_of_stability.loss(lambda x: torch.func.functional_call(model, changed, (x,)), batch)

    largest = float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, weights)).abs().max())
    single = (batch[0].float(), batch[1].float())
    assert edge_of_stability.sharpness(model.float(), single) == pytest.approx(largest, rel=0.1)


def test_a_descent_is_followed():
    measured = edge_of_stability.measure(0, 0.4, 300)
    assert len(measured["edge"]) == len(measured["loss"]) == 6
    assert measured["loss"][-1] < measured["loss"][0]


@pytest.mark.parametrize("net", warm_up.NETS)
def test_norms_stand_where_they_are_said_to(net):
    model = warm_up.Reverser(net)
    assert all(layer.norm_first is (net == "pre") for layer in model.encoder.layers)
    tokens = next(iter(warm_up.Sequences()))
    logits = torch.nn.functional.one_hot(tokens.flip(1), warm_up.TOKENS) * 50.0
    assert float(warm_up.loss(lambda _: logits, tokens)) == pytest.approx(0, abs=1e-6)
    assert model(tokens).shape == (*tokens.shape, warm_up.TOKENS)
