"""Scaling inside the network: exact, saved and moved with it, and nothing else of it changes."""

import copy
import pickle
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graddoctor.remedies.plain.scaling import answer_in_units, standardise_input, standardised_loss, with_entry

Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the old spelling must work too


@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    y: torch.Tensor


class Echo(nn.Module):
    """Hands back what it is given."""

    def forward(self, x, *, other=None):
        return x if other is None else (x, other)


X = torch.randn(8, 3) * 100


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))


@given(st.integers(0, 2**31))
def test_mean_zero_and_deviation_one_leave_outputs_bit_identical(seed):
    torch.manual_seed(seed)
    x = torch.randn(8, 3) * 10 ** torch.randint(-20, 20, (1,)).item()
    twin = standardise_input(net(), mean=[0.0] * 3, std=[1.0] * 3)
    answering = answer_in_units(net(), mean=0.0, std=1.0)
    for treated in (twin, answering):
        plain = net()
        torch.manual_seed(1)
        expected = plain(x)
        torch.manual_seed(1)
        assert torch.equal(treated(x), expected)


def test_features_are_shifted_and_scaled_by_position_and_by_keyword():
    mean, std = [1.0, 2.0, 3.0], [2.0, 4.0, 8.0]
    expected = (X - torch.tensor(mean)) / torch.tensor(std)
    model = standardise_input(Echo(), mean=mean, std=std, position=0, keyword="x")
    assert torch.equal(model(X), expected)
    assert torch.equal(model(x=X), expected)
    by_keyword = standardise_input(Echo(), mean=mean, std=std, position=None, keyword="other", prefix="other")
    untouched, scaled = by_keyword(X, other=X)
    assert torch.equal(untouched, X)
    assert torch.equal(scaled, expected)


def test_channels_of_images_are_shifted_and_scaled():
    images = torch.randn(2, 3, 4, 4)
    model = standardise_input(Echo(), mean=[1.0, 2.0, 3.0], std=[1.0, 2.0, 4.0], trailing_axes=2)
    assert torch.equal(model(images)[:, 1], (images[:, 1] - 2) / 2)


@pytest.mark.parametrize("x", [torch.arange(3), "text", None])
def test_what_is_no_floating_tensor_is_handed_on(x):
    assert standardise_input(Echo(), mean=1.0, std=2.0)(x) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_type_stays(dtype):
    model = standardise_input(Echo(), mean=[0.0, 0.0, 0.0], std=[2.0, 2.0, 2.0])
    assert model(X.to(dtype)).dtype == dtype
    assert answer_in_units(Echo(), mean=1.0, std=2.0)(X.to(dtype)).dtype == dtype


def both(model):
    model = standardise_input(model, mean=[1.0, 2.0, 3.0], std=[2.0, 2.0, 2.0])
    return answer_in_units(model, mean=70.0, std=1000.0)


def test_names_and_modes_stay_and_an_old_state_can_be_loaded():
    plain, treated = net().eval(), both(net().eval())
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in treated.named_parameters()]
    assert [n for n, _ in plain.named_modules()] == [n for n, _ in treated.named_modules()]
    assert not treated.training
    outcome = treated.load_state_dict(plain.state_dict(), strict=False)
    assert set(outcome.missing_keys) == {"input_mean", "input_std", "target_mean", "target_std"}
    assert not outcome.unexpected_keys


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])  # noqa: S301
def test_a_copy_stands_alone(copied):
    treated = both(net()).eval()
    before = treated(X)
    twin = copied(treated)
    treated.input_mean += 100
    treated.target_mean += 100
    assert torch.equal(twin(X), before)
    assert not torch.equal(treated(X), before)
    twin.load_state_dict(treated.state_dict())
    assert torch.equal(twin(X), treated(X))


def test_the_network_can_be_moved():
    moved = both(net()).to("meta")
    assert moved(X.to("meta")).device.type == "meta"


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def test_inside_the_loss_outputs_and_targets_are_standardised():
    model = answer_in_units(net().eval(), mean=70.0, std=1000.0)
    y = 1000 * torch.randn(8, 1) + 70
    with torch.no_grad():
        value = standardised_loss(model, (X, y), squared, target=(1,))
        assert float(value) == pytest.approx(float(squared(model, (X, y))) / 1e6, rel=1e-4)
    assert torch.equal(model(X), net().eval()(X) * 1000 + 70)


def test_a_loss_may_call_the_network_often_and_without_gradients():
    seen = []

    def twice(model, batch):
        with torch.no_grad():
            seen.append(model(batch[0]))
        return (model(batch[0]) - seen[-1]).square().mean()

    model = answer_in_units(net().eval(), mean=70.0, std=1000.0)
    assert float(standardised_loss(model, (X, X[:, :1]), twice, target=(1,)).detach()) == 0
    assert torch.equal(seen[0], net().eval()(X))


def test_units_are_back_after_a_loss_that_raises():
    def fails(model, batch):
        raise ValueError("no")

    model = answer_in_units(net().eval(), mean=70.0, std=1000.0)
    before = model(X)
    with pytest.raises(ValueError, match="no"):
        standardised_loss(model, (X, X), fails, target=(1,))
    assert torch.equal(model(X), before)


BATCHES = [
    ((1, 2), (1,), (1, 20)),
    ([1, 2], (0,), [10, 2]),
    (Pair(1, 2), (1,), Pair(1, 20)),
    ({"x": 1, "y": [2, 3]}, ("y", 1), {"x": 1, "y": [2, 30]}),
    (Sample(1, 2), ("y",), Sample(1, 20)),
    (3, (), 30),
]


@pytest.mark.parametrize(("batch", "keys", "expected"), BATCHES)
def test_one_entry_of_a_batch_is_changed_in_a_copy(batch, keys, expected):
    kept = copy.deepcopy(batch)
    changed = with_entry(batch, keys, lambda value: 10 * value)
    assert changed == expected
    assert type(changed) is type(batch)
    assert batch == kept
