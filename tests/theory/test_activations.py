"""Values and slopes against torch and autograd."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from graddoctor.errors import GraddoctorError
from graddoctor.theory.activations import KNOWN, resolve

TWINS = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "leaky_relu(0.2)": lambda x: functional.leaky_relu(x, 0.2),
    "prelu": lambda x: functional.leaky_relu(x, 0.25),
    "elu": functional.elu,
    "elu(0.5)": lambda x: functional.elu(x, 0.5),
    "celu": functional.celu,
    "celu(2)": lambda x: functional.celu(x, 2.0),
    "selu": functional.selu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": functional.hardtanh,
    "hardtanh(-2,3)": lambda x: functional.hardtanh(x, -2.0, 3.0),
    "relu6": functional.relu6,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "logsigmoid": functional.logsigmoid,
    "erf": torch.erf,
    "sin": torch.sin,
    "exp": torch.exp,
}
GRID = np.linspace(-9.03, 9.01, 401)  # no point on a kink


@pytest.mark.parametrize("name", TWINS)
def test_value_and_slope_are_those_of_torch(name):
    phi = resolve(name)
    x = torch.tensor(GRID, requires_grad=True)
    y = TWINS[name](x)
    slope = torch.autograd.grad(y.sum(), x)[0].numpy()
    np.testing.assert_allclose(phi.value(GRID), y.detach().numpy(), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(phi.slope(GRID), slope, rtol=1e-7, atol=1e-8)


def test_every_known_name_has_a_twin_here():
    assert {name.split("(")[0] for name in TWINS} | {"leaky_relu"} == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_kinks_are_where_the_slope_jumps_or_bends(name):
    phi = resolve(name)
    x = np.arange(-8, 8, 1e-3) + 5e-4
    bend = np.abs(np.diff(phi.slope(x), n=2)) / max(1.0, np.abs(phi.slope(x)).max())
    for place in x[1:-1][bend > 1e-4]:
        assert min(abs(place - kink) for kink in phi.kinks) < 3e-3


@pytest.mark.parametrize("name", KNOWN)
def test_scale_free_is_said_of_those_that_are(name):
    phi = resolve(name)
    assert phi.scale_free == all(np.allclose(phi.value(c * GRID), c * phi.value(GRID)) for c in (0.3, 5.0))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ReLU", "relu"),
        ("LeakyReLU(0.2)", "leaky_relu(0.2)"),
        ("nn.Hardtanh", "hardtanh"),
        ("hard_tanh", "hardtanh"),
        ("swish", "silu"),
        ("Identity", "linear"),
        (" relu ", "relu"),
    ],
)
def test_spellings(text, name):
    assert resolve(text).name == name


@pytest.mark.parametrize("text", ["rellu", "", "(", "leaky_relu(x)", "tanh(1)", "relu(0.1)", "elu(1,2,3)"])
def test_a_name_that_means_nothing_is_refused(text):
    with pytest.raises(GraddoctorError) as caught:
        resolve(text)
    assert repr(text) in str(caught.value)


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(
        GraddoctorError, match=r"did you mean 'relu'.*relu, leaky_relu, .*hardswish.*function of a tensor"
    ):
        resolve("rellu")


def test_something_else_is_refused():
    with pytest.raises(GraddoctorError, match="got 3"):
        resolve(3)


@pytest.mark.parametrize(
    "function",
    [torch.tanh, torch.nn.GELU(), torch.nn.ReLU(inplace=True), torch.nn.PReLU(), lambda x: x * torch.sigmoid(x)],
)
def test_a_function_on_tensors_gives_value_and_slope(function):
    twin = {"tanh": "tanh", "GELU": "gelu", "ReLU": "relu", "PReLU": "prelu", "<lambda>": "silu"}
    phi = resolve(function)
    with torch.no_grad():
        known = resolve(twin[phi.name])
        np.testing.assert_allclose(phi.value(GRID), known.value(GRID), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(phi.slope(GRID), known.slope(GRID), rtol=1e-7, atol=1e-9)
    assert phi.scale_free == known.scale_free
    assert phi.kinks is None


def test_a_module_is_left_as_it_was():
    module = torch.nn.PReLU()
    resolve(module)
    assert module.weight.dtype == torch.float32
    assert module.training
    assert module.weight.grad is None


def test_a_function_without_gradient_has_slope_zero():
    assert not resolve(torch.ones_like).slope(GRID).any()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x.sum(), r"shape \(65,\) gave \(\)"),
        (lambda x: (x, x), "gave tuple"),
        (lambda x: torch.softmax(x, 0), "depends on the others"),
    ],
)
def test_a_function_that_is_not_elementwise_is_refused(function, words):
    with pytest.raises(GraddoctorError, match=words):
        resolve(function)


def test_names_need_no_torch():
    code = (
        "import sys\n"
        "from graddoctor.theory.criticality import gain\n"
        "assert gain('tanh').exact\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
