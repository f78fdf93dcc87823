"""Quadrature against scipy's adaptive integration, closed forms and random draws."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import KNOWN, resolve
from graddoctor.theory.quadrature import length_slope, moments, product

ANY_SCALE = ["linear", "relu", "leaky_relu(0.1)", "leaky_relu(0.2)", "prelu"]

# Each row: E[φ], E[φ²], E[φ'²] for a standard normal input, as published for this project's science notes.
TABLE = {
    "linear": (0, 1, 1),
    "tanh": (0, 0.3943, 0.4644),
    "sigmoid": (0.5, 0.2934, 0.0448),
    "hardtanh": (0, 0.5161, 0.6827),
    "relu": (0.3989, 0.5, 0.5),
    "leaky_relu(0.01)": (0.3950, 0.5000, 0.5000),
    "leaky_relu(0.1)": (0.3590, 0.5050, 0.5050),
    "leaky_relu(0.2)": (0.3192, 0.5200, 0.5200),
    "prelu": (0.2992, 0.5312, 0.5312),
    "elu": (0.1605, 0.6449, 0.6681),
    "selu": (0, 1.0, 1.0716),
    "gelu": (0.2821, 0.4252, 0.4559),
    "silu": (0.2066, 0.3558, 0.3795),
    "softplus": (0.8061, 0.9212, 0.2934),
    "softsign": (0, 0.1830, 0.2277),
    "mish": (0.2404, 0.4523, 0.4791),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    m = moments(name, 1.0)
    assert (m.mean, m.square, m.slope_square) == pytest.approx(TABLE[name], abs=6e-5)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("q", [1e-4, 0.3, 1.0, 7.0])
def test_moments_are_those_of_adaptive_integration(name, q):
    phi, sigma = resolve(name), math.sqrt(q)
    edges = sorted({-12.0, 12.0, *(k / sigma for k in (*phi.kinks, 0.0, 1.0) if abs(k / sigma) < 12)})

    def brute(f):
        def integrand(z):
            return float(f(np.array(sigma * z))) * stats.norm.pdf(z)

        return sum(integrate.quad(integrand, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(edges))

    m = moments(name, q)
    expected = [brute(phi.value), brute(lambda x: phi.value(x) ** 2), brute(lambda x: phi.slope(x) ** 2)]
    assert [m.mean, m.square, m.slope_square] == pytest.approx(expected, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "hardtanh", "sigmoid", "hardswish"])
def test_moments_are_those_of_random_draws(name):
    phi, q = resolve(name), 2.3
    x = np.random.default_rng(0).normal(0, math.sqrt(q), 400_000)
    m = moments(name, q)
    for values, expected in (
        (phi.value(x), m.mean),
        (phi.value(x) ** 2, m.square),
        (phi.slope(x) ** 2, m.slope_square),
    ):
        assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(x.size) + 1e-12


@given(q=st.floats(1e-12, 1e6), name=st.sampled_from(ANY_SCALE))
def test_a_scale_free_activation_does_not_see_the_scale(q, name):
    at, one = moments(name, q), moments(name, 1.0)
    assert at.slope_square == pytest.approx(one.slope_square, rel=1e-9)
    assert at.square == pytest.approx(q * one.square, rel=1e-9)
    assert at.mean == pytest.approx(math.sqrt(q) * one.mean, rel=1e-9, abs=1e-12)


@given(q=st.floats(1e-6, 100), name=st.sampled_from([k for k in KNOWN if k != "exp"]))
def test_jensen_and_slope_bounds_hold(q, name):
    m = moments(name, q)
    assert m.square >= m.mean**2 * (1 - 1e-9)
    assert 0 < m.slope_square <= np.max(resolve(name).slope(np.linspace(-60, 60, 24_001)) ** 2) * (1 + 1e-6)


@given(q=st.floats(1e-3, 20), name=st.sampled_from([k for k in KNOWN if k != "exp"]))
def test_length_slope_is_the_derivative_of_the_square(q, name):
    step = 1e-4 * q
    difference = (moments(name, q + step).square - moments(name, q - step).square) / (2 * step)
    assert length_slope(name, q) == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_at_zero_the_limit_from_above():
    assert moments("relu", 0.0).slope_square == pytest.approx(0.5)
    assert moments("sigmoid", 0.0).mean == pytest.approx(0.5)
    assert moments("gelu", 0.0).slope_square == pytest.approx(0.25)


def test_an_integral_beyond_float64_is_infinite():
    assert moments("exp", 1e5).square == math.inf


@pytest.mark.parametrize(
    ("function", "name"), [(torch.relu, "relu"), (torch.nn.Hardtanh(), "hardtanh"), (torch.tanh, "tanh")]
)
@pytest.mark.parametrize("q", [0.2, 1.0, 9.0])
def test_a_function_with_unknown_kinks_is_close(function, name, q):
    a, b = moments(function, q), moments(name, q)
    assert (a.mean, a.square, a.slope_square) == pytest.approx((b.mean, b.square, b.slope_square), abs=1e-3)


def test_a_kink_nobody_knows_of_costs_little():
    m = moments(lambda x: torch.relu(x - 0.377), 1.0)
    assert m.slope_square == pytest.approx(stats.norm.sf(0.377), abs=1e-3)


@pytest.mark.parametrize("q", [-1.0, math.nan, math.inf])
def test_a_variance_must_be_one(q):
    with pytest.raises(GraddoctorError, match=str(q)):
        moments("relu", q)


@given(c=st.floats(-1, 1), q=st.floats(0.01, 20))
def test_relu_product_in_closed_form(c, q):
    expected = q * (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)  # arc-cosine kernel, degree 1
    assert product("relu", q, c) == pytest.approx(expected, rel=1e-6, abs=1e-12 * q)


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid", "softplus", "hardtanh"])
def test_product_at_the_ends(name):
    m = moments(name, 1.7)
    assert product(name, 1.7, 1.0) == pytest.approx(m.square, rel=1e-9)
    assert product(name, 1.7, 0.0) == pytest.approx(m.mean**2, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "gelu"])
@pytest.mark.parametrize("c", [-0.6, 0.4, 0.95])
def test_product_is_that_of_gauss_hermite_coefficients(name, c):
    """Mehler: E[φ(u₁)φ(u₂)] = Σ a_k² c^k with Hermite coefficients a_k, here by brute force on a fine grid."""
    z = np.linspace(-12, 12, 200_001)
    weight = stats.norm.pdf(z) * (z[1] - z[0])
    value = resolve(name).value(z * math.sqrt(1.3))
    before, here, total = np.zeros_like(z), np.ones_like(z), 0.0
    for k in range(150):  # normalised Hermite polynomials by their recursion
        total += float(weight @ (value * here)) ** 2 * c**k
        before, here = here, (z * here - math.sqrt(k) * before) / math.sqrt(k + 1)
    assert product(name, 1.3, c) == pytest.approx(total, rel=2e-5)


def test_a_correlation_must_be_one():
    with pytest.raises(GraddoctorError, match=r"1\.5"):
        product("relu", 1.0, 1.5)
