"""Torch functions are recognised alike as modules, functions, methods, operators and properties."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graddoctor.remedies.functions import (
    ACTIVATIONS,
    ADDITIONS,
    LINEAR,
    NORMALIZATIONS,
    carries,
    first_tensor,
    in_place,
    name_of,
    tensors_in,
    with_first,
    wrap_forward,
)

X, W = torch.rand(2, 3), torch.rand(3, 3)


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = first_tensor(args, kwargs)
        self.calls.append((name_of(func), in_place(func, kwargs, args), first is not None))
        return func(*args, **kwargs)


def seen(call):
    with Seen() as mode:
        call()
    return mode.calls


@pytest.mark.parametrize(
    ("call", "name", "overwrites"),
    [
        (lambda: functional.relu(X), "relu", False),
        (lambda: torch.relu(X), "relu", False),
        (X.relu, "relu", False),
        (lambda: X.clone().relu_(), "relu", True),
        (lambda: torch.relu_(X.clone()), "relu", True),
        (lambda: functional.relu_(X.clone()), "relu", True),
        (lambda: nn.ReLU()(X), "relu", False),
        (lambda: nn.ReLU(inplace=True)(X.clone()), "relu", True),
        (lambda: functional.relu(X.clone(), True), "relu", True),
        (lambda: functional.relu(input=X), "relu", False),
        (lambda: nn.LeakyReLU(0.2, inplace=True)(X.clone()), "leaky_relu", True),
        (lambda: functional.leaky_relu(X.clone(), 0.1, True), "leaky_relu", True),
        (lambda: nn.ELU(inplace=True)(X.clone()), "elu", True),
        (lambda: nn.SiLU(inplace=True)(X.clone()), "silu", True),
        (lambda: nn.Hardtanh(inplace=True)(X.clone()), "hardtanh", True),
        (X.sigmoid, "sigmoid", False),
        (lambda: nn.Softmax(-1)(X), "softmax", False),
        (lambda: torch.expm1(X), "expm1", False),
    ],
)
def test_activations_are_recognised_in_every_spelling(call, name, overwrites):
    assert name in ACTIVATIONS
    mine = [c for c in seen(call) if c[0] in ACTIVATIONS]
    assert (name, overwrites, True) in mine


@pytest.mark.parametrize(
    ("call", "family"),
    [
        (lambda: X @ W, LINEAR),
        (lambda: torch.matmul(X, W), LINEAR),
        (lambda: X.mm(W), LINEAR),
        (lambda: torch.einsum("bi,io->bo", X, W), LINEAR),
        (lambda: nn.Linear(3, 2)(X), LINEAR),
        (lambda: nn.Conv1d(2, 2, 1)(X[None]), LINEAR),
        (lambda: X + X, ADDITIONS),
        (lambda: torch.add(X, X), ADDITIONS),
        (lambda: X.clone().add_(X), ADDITIONS),
        (lambda: nn.LayerNorm(3)(X), NORMALIZATIONS),
        (lambda: nn.BatchNorm1d(3)(X), NORMALIZATIONS),
        (lambda: nn.RMSNorm(3)(X), NORMALIZATIONS),
    ],
)
def test_other_functions_are_recognised(call, family):
    assert any(name in family for name, _, _ in seen(call))


def test_properties_go_by_their_own_name():
    assert [name for name, _, _ in seen(lambda: X.T)] == ["T"]
    assert [name for name, _, _ in seen(lambda: X.mT)] == ["mT"]


def test_what_hands_a_tensor_on_unchanged_but_for_constants():
    y = X.clone().requires_grad_()
    assert carries("squeeze", y, (y,), {})
    assert carries("__mul__", y, (y, 2.0), {})
    assert carries("add", y, (y, torch.ones(3)), {})
    assert not carries("add", y, (y, y * 2), {})
    assert not carries("relu", y, (y,), {})


def test_the_first_tensor_is_exchanged_wherever_it_was_given():
    assert with_first(W, (X, 1), {"a": 2}) == ((W, 1), {"a": 2})
    assert with_first(W, (), {"input": X, "a": 2}) == ((), {"input": W, "a": 2})
    assert first_tensor((3,), {}) is None


def test_tensors_are_collected_in_order():
    assert [id(t) for t in tensors_in(((X, [W]), {"a": X, "b": (1, None)}))] == [id(X), id(W), id(X)]


def test_a_wrapped_forward_is_this_objects_alone():
    wrapped, other = nn.Linear(3, 3), nn.Linear(3, 3)
    assert wrap_forward(wrapped, lambda forward, args, kwargs: 2 * forward(*args, **kwargs)) is wrapped
    plain = functional.linear(X, wrapped.weight, wrapped.bias)
    assert torch.equal(wrapped(X), 2 * plain)
    assert torch.equal(other(X), functional.linear(X, other.weight, other.bias))
    wrap_forward(wrapped, lambda forward, args, kwargs: 3 * forward(*args, **kwargs))
    assert torch.equal(wrapped(X), 3 * (2 * plain))
