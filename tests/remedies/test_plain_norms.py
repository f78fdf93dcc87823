"""Norms behind layers: new entries in the state, nothing renamed, and what they compute is what torch's would."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_networks import (
    NETWORKS,
    WithinTransformer,
    assert_same_parameters,
    assert_unchanged,
    batch_for,
    behaviour,
    built,
    described,
    same,
)
from torch import nn

from graddoctor.remedies.plain.norms import add_norms, pre_norm

NORMS = [(nn.BatchNorm1d, {}), (nn.LayerNorm, {}), (nn.RMSNorm, {}), (nn.GroupNorm, {"groups": 4})]


def linears(model):
    inside = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
    skipped = [f"{name}." for name, module in model.named_modules() if isinstance(module, inside)]
    named = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in named if not name.startswith(tuple(skipped))]


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 9),
    norm=st.sampled_from(NORMS),
    data=st.data(),
)
def test_what_was_there_is_there_and_copies_are_alike(name, seed, norm, data):
    model, operated = built(name, seed), built(name, seed)
    names = data.draw(st.lists(st.sampled_from(linears(model)), unique=True))
    assert add_norms(operated, names, norm[0], **norm[1]) is operated
    assert_same_parameters(operated, model)
    new = set(operated.state_dict()) - set(model.state_dict())
    assert {key.rpartition(".norm.")[0] for key in new} == set(names)
    x = batch_for(model)
    twins = [copy.deepcopy(operated), pickle.loads(pickle.dumps(operated))]  # noqa: S301 - the test's own bytes
    expected = behaviour(operated, x)
    assert all(same(behaviour(twin, x), expected) for twin in twins)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_names_change_no_bit(name):
    operated = pre_norm(add_norms(built(name), [], nn.LayerNorm), [])
    assert_unchanged(operated, built(name), batch_for(operated))


@pytest.mark.parametrize(("norm", "options"), NORMS)
def test_a_layer_gives_what_its_norm_gives(norm, options):
    model = add_norms(built("mlp"), ["0"], norm, **options)
    x = batch_for(model)
    alone = copy.deepcopy(model[0].norm)
    raw = nn.functional.linear(x, model[0].weight, model[0].bias)
    assert torch.equal(model[0](x), alone(raw))
    assert not torch.equal(model[0](x), raw)


def test_groups_divide_the_channels():
    model = add_norms(nn.Sequential(nn.Conv2d(1, 12, 3), nn.Conv1d(2, 7, 1)), ["0", "1"], nn.GroupNorm, groups=32)
    assert [layer.norm.num_groups for layer in model] == [4, 1]


def test_a_norm_comes_before_the_hooks_of_others():
    model = built("hooked")
    x = batch_for(model)
    add_norms(model, ["2"], nn.LayerNorm)
    raw = nn.functional.linear(x, model[2].weight, model[2].bias)
    assert torch.equal(model[2](x), 1.5 * model[2].norm(raw))


def test_a_new_norm_has_the_mode_and_the_type_of_its_layer():
    model = built("double")
    model[2].eval()
    add_norms(model, ["0", "2"], nn.BatchNorm1d)
    assert [model[k].norm.training for k in (0, 2)] == [True, False]
    assert model[0].norm.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("layer", "norm", "x"),
    [
        (nn.Linear(6, 4), nn.BatchNorm1d, torch.randn(1, 6)),
        (nn.Conv2d(2, 4, 3), nn.BatchNorm2d, torch.randn(1, 2, 3, 3)),
    ],
)
def test_a_single_sample_is_normalised_by_the_running_statistics(layer, norm, x):
    model = add_norms(nn.Sequential(layer), ["0"], norm)
    before = copy.deepcopy(model[0].norm.state_dict())
    alone = model(x)
    state = model[0].norm.state_dict()
    assert all(torch.equal(state[key], before[key]) for key in before)
    assert torch.equal(alone, model.eval()(x))


def test_transformer_layers_normalise_first_and_their_stack_at_its_end():
    names = ["encoder.layers.0", "encoder.layers.1"]
    model = pre_norm(built("transformer"), names)
    assert_same_parameters(model, built("transformer"))
    torch.manual_seed(5)
    expected = WithinTransformer(norm_first=True, norm=True)
    expected.load_state_dict(model.state_dict())
    x = batch_for(model)
    assert same(behaviour(model, x), behaviour(expected, x))
    assert described(model) == described(expected)


def test_a_stack_that_ends_in_a_norm_keeps_it():
    model = WithinTransformer(norm=True)
    last = model.encoder.norm
    assert pre_norm(model, ["encoder.layers.1"]).encoder.norm is last
    assert [layer.norm_first for layer in model.encoder.layers] == [False, True]


def test_the_short_cut_of_the_other_order_is_not_taken():
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
    model = pre_norm(nn.TransformerEncoder(layer, 2), ["layers.0", "layers.1"]).eval()
    x, padding = torch.randn(3, 4, 6), torch.tensor([[False] * 4, [False, False, True, True], [False] * 4])
    with torch.no_grad():
        quick = model(x, src_key_padding_mask=padding)
    full = model(x, src_key_padding_mask=padding)
    assert quick.shape == full.shape
    torch.testing.assert_close(quick[~padding], full[~padding])
