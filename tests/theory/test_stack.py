"""A plain stack: against the tables of the literature, against simulation, and where its phases lie."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graddoctor.errors import GraddoctorError
from graddoctor.theory import gain, propagate, resolve
from graddoctor.theory.diagram import diagram
from graddoctor.theory.stack import PlainStack, phase_of

SCALES = st.floats(0.2, 3.0)


@pytest.mark.parametrize(
    ("activation", "weight_std", "decades", "scale"),
    [
        ("tanh", 3**-0.5, -0.2386, 0.91),
        ("sigmoid", 3**-0.5, -0.8494, 0.26),
        ("relu", 3**-0.5, -0.3891, 0.56),
        ("gelu", 3**-0.5, -0.5396, 0.40),
        ("selu", 3**-0.5, -0.0777, 2.8),
        ("tanh", 5 / 3, 0.0414, 5.2),
    ],
)
def test_slopes_and_depth_scales_are_those_of_the_literature(activation, weight_std, decades, scale):
    stack = PlainStack.of(activation, weight_std=weight_std)
    assert stack.asymptotic == pytest.approx(decades, abs=1e-4)
    assert stack.gradient_scale == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize(
    ("activation", "weight_std", "bias_std", "phase"),
    [
        ("tanh", 0.9, 0.0, "ordered"),
        ("tanh", 1.0, 0.0, "critical"),
        ("tanh", 1.1225, 0.05, "critical"),
        ("tanh", 1.3, 0.05, "chaotic"),
        ("relu", 2**0.5, 0.0, "critical"),
        ("relu", 1.0, 0.0, "ordered"),
        ("relu", 2.0, 0.0, "chaotic"),
        ("sigmoid", 4.0, 0.0, "ordered"),
        ("gelu", 2**0.5, 0.0, "ordered"),
    ],
)
def test_the_phase_is_known(activation, weight_std, bias_std, phase):
    assert PlainStack.of(activation, weight_std=weight_std, bias_std=bias_std).phase == phase


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "hardtanh", "elu", "softsign"])
def test_the_critical_initialization_is_critical(activation):
    start = gain(activation)
    stack = PlainStack.of(activation, weight_std=start.weight_std, bias_std=start.bias_std)
    assert stack.phase == "critical"
    assert abs(propagate(activation, 100, weight_std=start.weight_std, bias_std=start.bias_std).total) < 1


def test_samples_become_alike_in_the_ordered_phase_alone():
    ordered, chaotic = PlainStack.of("tanh", weight_std=0.9, bias_std=0.1), PlainStack.of("tanh", weight_std=2.0)
    assert ordered.correlation == 1.0
    assert ordered.correlation_scale == pytest.approx(-1 / math.log(ordered.chi))
    assert chaotic.correlation < 0.5
    assert 0 < chaotic.correlation_scale < 10


def test_correlations_come_to_rest_where_a_simulation_does():
    stack = PlainStack.of("tanh", weight_std=2.0, bias_std=0.5)
    generator = torch.Generator().manual_seed(0)
    width, found = 400, []
    x = torch.randn(2, width, generator=generator, dtype=torch.float64)
    for _ in range(40):
        weights = torch.randn(width, width, generator=generator, dtype=torch.float64) * stack.weight_std / width**0.5
        z = x @ weights.T + stack.bias_std * torch.randn(width, generator=generator, dtype=torch.float64)
        found.append(float(torch.cosine_similarity(z[0], z[1], dim=0)))
        x = z.tanh()
    assert np.mean(found[-20:]) == pytest.approx(stack.correlation, abs=0.05)
    assert 0.1 < stack.correlation < 0.9


@given(weight_std=SCALES, c=st.floats(0.01, 100.0))
@settings(max_examples=20, deadline=None)
def test_the_scale_of_the_input_is_nothing_to_a_scale_free_activation(weight_std, c):
    plain = propagate("relu", 5, weight_std=weight_std, start=1.0)
    scaled = propagate("relu", 5, weight_std=weight_std, start=c)
    assert scaled.decades == pytest.approx(plain.decades)


@given(weight_std=SCALES, depth=st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_one_layer_more_is_one_row_more(weight_std, depth):
    stack = PlainStack.of("tanh", weight_std=weight_std)
    fewer, more = (stack.budget(stack.through(n)).rows for n in (depth, depth + 1))
    assert more[:-1] == fewer
    assert sum(part.decades for part in more[-1].parts) == pytest.approx(more[-1].decades)


@given(weight_std=st.floats(0.3, 2.4), bias_std=st.floats(0.0, 0.9))
@settings(max_examples=8, deadline=None)
def test_the_diagram_agrees_with_the_stack(weight_std, bias_std):
    table = diagram(resolve("tanh"), weight_std=2.0, bias_std=0.5)
    i = int(np.searchsorted(table.bias_stds, bias_std, side="right")) - 1
    j = int(np.searchsorted(table.weight_stds, weight_std, side="right")) - 1
    middle = [(edges[k] + edges[k + 1]) / 2 for edges, k in ((table.weight_stds, j), (table.bias_stds, i))]
    exact = PlainStack.of("tanh", weight_std=middle[0], bias_std=middle[1]).asymptotic
    assert table.decades[i, j] == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("activation", ["tanh", "hardtanh", "softsign"])
def test_the_edge_of_chaos_is_where_chi_is_one(activation):
    edge = diagram(resolve(activation), weight_std=1.5, bias_std=0.5).edge
    assert len(edge) > 5
    for weight_std, bias_std in edge[1::6]:
        assert phase_of(PlainStack.of(activation, weight_std=weight_std, bias_std=bias_std).asymptotic) == "critical"


def test_the_scatter_of_narrow_nets_is_of_the_right_size():
    """Standard deviation over draws of weights, one sample each."""
    stack, width, depth = PlainStack.of("relu", weight_std=2**0.5), 60, 20
    generator = torch.Generator().manual_seed(0)
    totals = []
    for _ in range(150):
        g = torch.randn(width, generator=generator, dtype=torch.float64)
        before = g.norm()
        for _ in range(depth):
            weights = torch.randn(width, width, generator=generator, dtype=torch.float64) * (2 / width) ** 0.5
            g = (g @ weights) * (torch.rand(width, generator=generator) < 0.5)
        totals.append(float((g.norm() / before).log10()))
    expected = stack.scatter(stack.through(depth).lengths, width)
    assert np.std(totals) == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf, "1", True])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(GraddoctorError, match="weight_std: expected a standard deviation"):
        PlainStack.of("tanh", weight_std=scale)
