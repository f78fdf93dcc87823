"""Critical points against the literature's tables, against their definition, and against deep random networks."""

import math
import time

import pytest
import torch

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import KNOWN
from graddoctor.theory.criticality import gain
from graddoctor.theory.maps import chi, fixed_point, length_map, propagate

CRITICAL = [name for name in KNOWN if gain(name).exact]


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("relu", 2.0),
        ("leaky_relu(0.2)", 2 / 1.04),
        ("leaky_relu(0.01)", 2 / 1.0001),
        ("prelu", 2 / 1.0625),
        ("linear", 1),
    ],
)
def test_scale_free_as_he(name, variance):
    found = gain(name)
    assert (found.kind, found.exact, found.bias_std) == ("scale-free", True, 0.0)
    assert found.weight_std**2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "weight_std", "length"),
    [("tanh", 1.1225, 0.154), ("hardtanh", 1.0089, 0.177), ("softsign", 1.3611, 0.069)],
)
def test_critical_line_at_a_small_bias(name, weight_std, length):
    found = gain(name)
    assert found.kind == "critical line"
    assert (found.weight_std, found.bias_std) == pytest.approx((weight_std, 0.05), abs=6e-5)
    assert found.length == pytest.approx(length, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "weight", "bias", "length"),
    [
        ("gelu", 1.98306, 0.17292, 3.56),
        ("silu", 1.98800, 0.55514, 14.32),
        ("mish", 2.01352, 0.09452, 1.67),
        ("elu", 1.4968, 0.0347, 1.0),
    ],
)
def test_solved_points(name, weight, bias, length):
    found = gain(name)
    assert (found.weight_std**2, found.bias_std**2) == pytest.approx((weight, bias), abs=6e-5)
    assert found.length == pytest.approx(length, abs=6e-3)


def test_selu_is_lecun():
    found = gain("selu")
    assert (found.weight_std, found.bias_std, found.kind, found.exact) == (1.0, 0.0, "self-normalizing", False)


@pytest.mark.parametrize("name", ["sigmoid", "hardsigmoid", "softplus", "exp"])
def test_without_a_useful_point_a_flagged_choice(name):
    found = gain(name)
    assert (found.kind, found.exact) == ("fallback", False)
    assert "no useful critical point" in found.source
    assert 0 < found.weight_std < 10


def test_the_choice_for_the_sigmoid_is_better_than_the_usual_ones():
    totals = [
        propagate("sigmoid", 20, weight_std=std).total for std in (3**-0.5, 1.0, 2**0.5, gain("sigmoid").weight_std)
    ]
    assert totals == sorted(totals)


@pytest.mark.parametrize("name", CRITICAL)
def test_a_critical_point_is_critical(name):
    found = gain(name)
    q = 1.0 if math.isnan(found.length) else found.length
    assert chi(name, q, weight_std=found.weight_std) == pytest.approx(1.0, abs=1e-9)
    assert length_map(name, q, weight_std=found.weight_std, bias_std=found.bias_std) == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize("name", CRITICAL)
def test_thirty_layers_at_the_critical_point_keep_the_gradient(name):
    found = gain(name)
    assert abs(propagate(name, 30, weight_std=found.weight_std, bias_std=found.bias_std).total) < 1.1


def test_the_touched_root_counts_as_a_fixed_point():
    found = gain("mish")
    q = fixed_point("mish", weight_std=found.weight_std, bias_std=found.bias_std)
    assert q == pytest.approx(found.length, rel=0.05)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.tanh, "tanh"),
        (torch.nn.ReLU(), "relu"),
        (torch.nn.GELU(), "gelu"),
        (lambda x: x * torch.sigmoid(x), "silu"),
        (torch.sigmoid, "sigmoid"),
        (torch.nn.ELU(), "elu"),
    ],
)
def test_a_function_is_solved_as_its_name(function, name):
    found, known = gain(function), gain(name)
    assert (found.kind, found.exact) == (known.kind, known.exact)
    assert (found.weight_std, found.bias_std) == pytest.approx((known.weight_std, known.bias_std), rel=1e-3)


def test_an_activation_nobody_has_named():
    found = gain(torch.sin)
    assert found.exact
    assert chi(torch.sin, found.length, weight_std=found.weight_std) == pytest.approx(1, abs=1e-6)


def test_the_std_of_a_layer():
    assert gain("relu").std(512) == pytest.approx(math.sqrt(2 / 512))


def test_answers_are_kept():
    assert gain("tanh") is gain("tanh")


def test_answers_are_quick():
    for name in ("gelu", "tanh", "sigmoid", "softplus"):
        start = time.perf_counter()
        gain(f"{name} ")  # a spelling that no other test has asked for
        assert time.perf_counter() - start < 0.5  # 10 ms where nothing else runs


def test_a_flat_function_has_no_scale():
    with pytest.raises(GraddoctorError, match="slope of zero everywhere"):
        gain(torch.zeros_like)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(GraddoctorError, match="relu, leaky_relu"):
        gain("no such thing")
