"""Skip connections: the stream and the branch are what they should be, and nothing that was there is lost."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_networks import NETWORKS, assert_same_parameters, assert_unchanged, batch_for, behaviour, built, same
from torch import nn

from graddoctor.remedies.plain.activations import swap_modules
from graddoctor.remedies.plain.norms import add_norms
from graddoctor.remedies.plain.skips import add_skips


def stack(layers=5, act=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(6, 6), act())), nn.Linear(6, 6))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_spans_change_no_bit(name):
    assert_unchanged(add_skips(built(name), []), built(name), batch_for(built(name)))


@settings(max_examples=30)
@given(
    start=st.integers(0, 3),
    length=st.integers(1, 3),
    scale=st.sampled_from([0.0, 0.25, 1.0]),
    learned=st.booleans(),
    inplace=st.booleans(),
)
def test_the_stream_carries_what_stood_before_the_nonlinearity(start, length, scale, learned, inplace):
    def build():
        return stack(6, lambda: nn.ReLU(inplace=inplace))

    model, end = build(), start + length
    assert add_skips(model, [(str(2 * start), str(2 * end))], scale, learned=learned) is model
    x = batch_for(model)
    given_net = build()
    z = given_net[: 2 * start + 1](x)
    branch = given_net[2 * start + 1 : 2 * end + 1](z.clone())
    expected = given_net[2 * end + 1 :](z + scale * branch)
    assert torch.equal(model(x), expected)
    assert_same_parameters(model, given_net)
    assert set(model.state_dict()) - set(given_net.state_dict()) == ({f"{2 * end}.skip_scale"} if learned else set())


def test_a_shut_branch_gives_the_same_bits_as_no_branch():
    model = add_skips(stack(), [("0", "4"), ("4", "8")], 0.0, learned=True)
    x, z = batch_for(model), None
    z = model[0](x)
    assert torch.equal(model(x), model[9:](z))
    model(x).square().sum().backward()
    assert model[4].skip_scale.grad.abs() > 0
    assert float(model[2].weight.grad.abs().max()) == 0


@pytest.mark.parametrize("learned", [False, True])
def test_copies_go_their_own_way(learned):
    model = add_skips(stack(), [("0", "4"), ("4", "8")], 0.5, learned=learned)
    x = batch_for(model)
    model[0](x)  # as somebody does who looks into it: something is kept and not fetched
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301 - the test's own bytes
    expected = behaviour(model, x)
    assert all(same(behaviour(twin, x), expected) for twin in twins)
    with torch.no_grad():
        twins[0][0].weight.zero_()
    assert not torch.equal(twins[0](x), model(x))
    assert same(behaviour(model, x), expected)


def test_a_module_on_its_own_is_what_it_was():
    model = add_skips(stack(), [("0", "4")], 0.5)
    x = batch_for(model)
    assert torch.equal(model[4](x), nn.functional.linear(x, model[4].weight, model[4].bias))


def test_other_widths_are_projected_by_a_map_that_keeps_lengths():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 12))
    add_skips(model, [("0", "4")], 0.0, {"4": (8, 12)})
    weight = model[4].skip_projection.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(8))
    x = batch_for(model)
    assert torch.equal(model(x), model[4].skip_projection(model[0](x)))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_maps_of_other_sizes_are_projected_by_convolutions(dimensions):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    model = nn.Sequential(conv(2, 4, 1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1))
    add_skips(model, [("0", "2")], 1.0, {"2": (4, 6, *[2] * dimensions)})
    assert model(torch.randn(3, 2, *[7] * dimensions)).shape == (3, 6, *[4] * dimensions)


def test_what_is_drawn_afterwards_is_drawn_as_before():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 12))
    state = torch.get_rng_state()
    add_skips(model, [("0", "2")], 1.0, {"2": (8, 12)})
    assert torch.equal(torch.get_rng_state(), state)


def test_norms_stand_in_the_branch_whichever_came_first():
    def operated(*, norms_first):
        model = stack()
        if norms_first:
            add_norms(model, ["4"], nn.LayerNorm)
        add_skips(model, [("0", "4")], 0.5)
        return model if norms_first else add_norms(model, ["4"], nn.LayerNorm)

    first, second = operated(norms_first=True), operated(norms_first=False)
    x = batch_for(first)
    assert torch.equal(first(x), second(x))


def test_a_new_parameter_has_the_type_of_its_place():
    model = add_skips(stack().double(), [("0", "4")], 0.5, {"4": (6, 6)}, learned=True)
    assert model[4].skip_scale.dtype == model[4].skip_projection.weight.dtype == torch.float64


def test_what_is_new_stands_on_the_device_of_its_place():
    model = stack().to("meta")
    add_norms(model, ["4"], nn.BatchNorm1d)
    add_skips(model, [("0", "4")], 0.5, {"4": (6, 6)}, learned=True)
    swap_modules(model, ["1"], nn.PReLU)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
