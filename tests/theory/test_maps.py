"""Maps against the published rates, random networks and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import resolve
from graddoctor.theory.maps import (
    asymptotic_decades,
    chi,
    correlation_map,
    depth_scale,
    fixed_point,
    length_map,
    propagate,
)

DEFAULT, XAVIER, HE = 3**-0.5, 1.0, 2**0.5

# decades per layer at the fixed point, zero bias: PyTorch's default Linear, Xavier, He
RATES = {
    "linear": (-0.2386, 0, 0.1505),
    "tanh": (-0.2386, 0, 0.0218),
    "sigmoid": (-0.8494, -0.6270, -0.4979),
    "hardtanh": (-0.2386, 0, 0.0637),
    "relu": (-0.3891, -0.1505, 0),
    "leaky_relu(0.1)": (-0.3869, -0.1484, 0.0022),
    "leaky_relu(0.2)": (-0.3806, -0.1420, 0.0085),
    "prelu": (-0.3759, -0.1374, 0.0132),
    "selu": (-0.0777, 0.0150, 0.0215),
    "gelu": (-0.5396, -0.3010, -0.1505),
    "silu": (-0.5396, -0.3010, -0.1505),
    "softsign": (-0.2386, 0, 0.0090),
    "mish": (-0.4604, -0.2218, -0.0713),
}
# depth at which the norm has changed by ten decades, from inputs of unit variance
TEN_DECADES = {
    "linear": (42, None, 67),
    "tanh": (42, None, None),
    "sigmoid": (12, 16, 20),
    "hardtanh": (42, None, 159),
    "relu": (26, 67, None),
    "leaky_relu(0.2)": (27, 71, None),
    "elu": (42, None, None),
    "selu": (123, None, None),
    "gelu": (19, 35, 79),
    "silu": (19, 34, 71),
    "softplus": (19, 38, 382),
    "softsign": (41, None, None),
    "mish": (22, 46, 159),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_at_the_fixed_point(name):
    measured = [asymptotic_decades(name, weight_std=std) for std in (DEFAULT, XAVIER, HE)]
    assert measured == pytest.approx(RATES[name], abs=6e-5)


@pytest.mark.parametrize("name", TEN_DECADES)
def test_depth_of_ten_decades(name):
    for std, expected in zip((DEFAULT, XAVIER, HE), TEN_DECADES[name], strict=True):
        changed = np.abs(np.cumsum(propagate(name, 400, weight_std=std).decades)) >= 10
        assert (int(changed.argmax()) + 1 if changed.any() else None) == expected


@pytest.mark.parametrize(
    ("name", "layers", "weight_std", "bias_variance", "total"),
    [
        ("tanh", 30, DEFAULT, 1 / 3000, -7.290),
        ("sigmoid", 10, DEFAULT, 1 / 3000, -8.516),
        ("relu", 20, DEFAULT, 1 / 3000, -7.782),
        ("relu", 50, HE, 0, 0),
        ("tanh", 50, XAVIER, 0, -0.922),
        ("tanh", 50, 1.12254, 0.0025, -0.363),
        ("gelu", 20, DEFAULT, 1 / 3000, -10.678),
        ("gelu", 50, HE, 0, -5.719),
        ("selu", 50, XAVIER, 0, 0.751),
    ],
)
def test_totals(name, layers, weight_std, bias_variance, total):
    found = propagate(name, layers, weight_std=weight_std, bias_std=math.sqrt(bias_variance))
    assert found.total == pytest.approx(total, abs=1e-3)
    assert found.decades_per_layer == pytest.approx(total / layers, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "weight_std", "bias_std"),
    [("tanh", 10, DEFAULT, 0.0183), ("relu", 10, HE, 0.0), ("sigmoid", 5, DEFAULT, 0.0183), ("gelu", 10, DEFAULT, 0.1)],
)
def test_a_random_network_does_as_the_theory_says(name, layers, weight_std, bias_std):
    width, batch = 1000, 16
    rng = torch.Generator().manual_seed(1)
    function = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "gelu": torch.nn.functional.gelu}[
        name
    ]

    def layer(x):
        weight = torch.randn(width, width, generator=rng) * (weight_std / math.sqrt(width))
        return x @ weight.T + torch.randn(width, generator=rng) * bias_std

    first = last = layer(torch.randn(batch, width, generator=rng)).requires_grad_()
    lengths = []
    for _ in range(layers):
        lengths.append(float(last.detach().square().mean()))
        last = layer(function(last))
    gradient = torch.autograd.grad(last, first, torch.randn(batch, width, generator=rng))[0]
    measured = math.log10(float(gradient.norm()) / math.sqrt(batch * width))
    theory = propagate(name, layers, weight_std=weight_std, bias_std=bias_std)
    assert measured == pytest.approx(theory.total, abs=0.08)
    np.testing.assert_allclose(lengths, theory.lengths, rtol=0.3)  # the length wanders at finite width


def test_published_gains_of_pytorch():
    assert asymptotic_decades("tanh", weight_std=5 / 3) == pytest.approx(0.0414, abs=1e-4)
    q = fixed_point("tanh", weight_std=5 / 3)
    assert depth_scale(chi("tanh", q, weight_std=5 / 3)) == pytest.approx(5.2, abs=0.05)
    q = fixed_point("selu", weight_std=0.75)
    assert (q, chi("selu", q, weight_std=0.75)) == pytest.approx((0.023, 1.004), abs=1e-3)


@pytest.mark.parametrize(("decades", "scale"), [(-0.2386, 0.91), (-0.8494, 0.26), (-0.0777, 2.8)])
def test_depth_scale(decades, scale):
    assert depth_scale(10 ** (2 * decades)) == pytest.approx(scale, rel=0.02)


def test_depth_scale_at_its_ends():
    assert depth_scale(1.0) == math.inf
    assert depth_scale(0.0) == 0.0


def test_fixed_points():
    assert fixed_point("tanh", weight_std=DEFAULT) == 0.0  # collapses
    assert fixed_point("relu", weight_std=2.0) == math.inf  # diverges
    assert fixed_point("relu", weight_std=HE, start=0.7) == 0.7  # every length is fixed
    assert fixed_point("sigmoid", weight_std=10.149) == pytest.approx(45.6, abs=0.1)


@given(
    weight_std=st.floats(0.2, 3),
    bias_std=st.floats(0.01, 1),
    name=st.sampled_from(["tanh", "sigmoid", "hardtanh", "softsign", "gelu", "elu"]),
)
def test_a_fixed_point_is_fixed_and_is_where_the_layers_go(weight_std, bias_std, name):
    q = fixed_point(name, weight_std=weight_std, bias_std=bias_std)
    if math.isinf(q):
        return
    assert length_map(name, q, weight_std=weight_std, bias_std=bias_std) == pytest.approx(q, rel=1e-6)
    lengths = propagate(name, 60, weight_std=weight_std, bias_std=bias_std, start=1.0).lengths
    assert abs(np.log(lengths[-1] / q)) <= abs(np.log(lengths[0] / q)) + 1e-6


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "hardtanh", "sigmoid"])
def test_chi_is_the_slope_of_the_correlation_map_at_one(name):
    q, at = 1.4, {"weight_std": 1.3, "bias_std": 0.2}
    gap = 1e-5
    rise = 1 - correlation_map(name, 1 - gap, q, **at)
    expected = chi(name, q, weight_std=1.3) * q / length_map(name, q, **at)
    assert rise / gap == pytest.approx(expected, rel=0.02)  # a kinked slope adds a term in √gap


@given(c=st.floats(-1, 1), name=st.sampled_from(["tanh", "relu", "gelu", "sigmoid"]), q=st.floats(0.05, 10))
def test_a_correlation_stays_one(c, name, q):
    assert -1 - 1e-9 <= correlation_map(name, c, q, weight_std=1.1, bias_std=0.1) <= 1 + 1e-9
    assert correlation_map(name, 1.0, q, weight_std=1.1, bias_std=0.1) == pytest.approx(1.0)


@given(q=st.floats(1e-9, 1e9), std=st.floats(0.1, 4), name=st.sampled_from(["relu", "leaky_relu(0.2)", "linear"]))
def test_chi_of_a_scale_free_activation_is_independent_of_q(q, std, name):
    assert chi(name, q, weight_std=std) == pytest.approx(chi(name, 1.0, weight_std=std), rel=1e-9)


def test_he_drifts_slowly_where_relu_is_only_the_asymptote():
    for name in ("elu", "softplus"):  # not at a fixed point within any depth that is trained; the rate tends to zero
        rates = propagate(name, 400, weight_std=HE).decades
        assert abs(rates[-1]) < abs(rates[40]) < 0.06
        assert asymptotic_decades(name, weight_std=HE) == pytest.approx(0, abs=1e-5)


def test_a_blow_up_is_infinite_and_no_crash():
    found = propagate("exp", 12, weight_std=1.0)
    assert found.total == math.inf
    assert propagate(lambda x: 0 * x, 2, weight_std=1.0).total == -math.inf


@pytest.mark.parametrize("bad", [{"depth": 0}, {"weight_std": -1.0}, {"bias_std": math.nan}, {"start": -2.0}])
def test_bad_numbers_are_refused_with_their_value(bad):
    arguments = {"depth": 3, "weight_std": 1.0, "bias_std": 0.0, "start": 1.0} | bad
    with pytest.raises(GraddoctorError, match=str(next(iter(bad.values())))):
        propagate("tanh", **arguments)


def test_activation_objects_pass_through():
    phi = resolve("tanh")
    assert propagate(phi, 3, weight_std=1.0).total == propagate("tanh", 3, weight_std=1.0).total
