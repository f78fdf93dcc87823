"""Exchanged activations: nothing else changes by a bit, in modules and in calls, whatever the network."""

import copy
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from surgery_networks import (
    NETWORKS,
    Branching,
    SharedActivation,
    Spelled,
    assert_same_parameters,
    assert_unchanged,
    batch_for,
    behaviour,
    built,
    noted,
    same,
)
from torch import nn
from torch.nn import functional

from graddoctor.remedies.plain.activations import NONLINEARITIES, swap_calls, swap_calls_at_run, swap_modules

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid)
TRACED = sorted(NETWORKS.keys() - {"branching", "transformer"})


def activation_names(model):
    named = model.named_modules(remove_duplicate=False)
    return [name for name, module in named if isinstance(module, ACTIVATIONS)]


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 9), rows=st.integers(2, 9))
def test_a_module_exchanged_for_its_own_kind_changes_no_bit(name, seed, rows):
    model, operated = built(name, seed), built(name, seed)
    for place in activation_names(model):
        old = model.get_submodule(place)
        options = {"inplace": True} if getattr(old, "inplace", False) else {}
        assert swap_modules(operated, [place], type(old), **options) is operated
        assert operated.get_submodule(place) is not old
    assert_unchanged(operated, model, batch_for(model, rows, seed))


@settings(max_examples=40)
@given(
    name=st.sampled_from(TRACED),
    seed=st.integers(0, 9),
    rows=st.integers(2, 9),
    function=st.sampled_from(["tanh", "relu", "sigmoid"]),
    swap=st.sampled_from([swap_calls, swap_calls_at_run]),
)
def test_a_call_exchanged_for_the_same_function_changes_no_bit(name, seed, rows, function, swap):
    assume(name != "hooked" or swap is swap_calls_at_run)  # a call written down is no call of the module with the hook
    model, operated = built(name, seed), built(name, seed)
    assert swap(operated, {"": (function,)}, function) is operated
    assert_unchanged(operated, model, batch_for(model, rows, seed))


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 9), twice=st.booleans())
def test_nothing_chosen_at_run_changes_no_bit(name, seed, twice):
    model, operated = built(name, seed), built(name, seed)
    for _ in range(1 + twice):
        swap_calls_at_run(operated, {"": ()}, "relu")
    assert_unchanged(operated, model, batch_for(model))


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_names_change_no_bit(name, swap):
    model = built(name)
    assert_unchanged(swap_modules(swap(built(name), {}, "relu"), [], nn.ReLU), model, batch_for(model))


def expected(model, x, functions):
    """What the spelled-out network gives with these functions in the places of its four."""
    first, second, third, fourth = functions
    x = first(model.layers[0](x))
    x = second(model.layers[1](x)) * model.scale
    x = third(model.layers[2](x)) + model.shift
    return model.layers[4](fourth(model.layers[3](x)))


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
@pytest.mark.parametrize(
    ("chosen", "places"),
    [(("tanh",), {0}), (("relu",), {1, 3}), ((1,), {1}), ((2, 3), {2, 3}), (("sigmoid", 0), {0, 2})],
)
def test_calls_are_chosen_by_number_or_by_name(swap, chosen, places):
    model = swap(built("spelled"), {"": chosen}, "leaky_relu", negative_slope=0.25)
    plain = [torch.tanh, torch.relu, torch.sigmoid, torch.relu]
    functions = [(lambda x: functional.leaky_relu(x, 0.25)) if k in places else f for k, f in enumerate(plain)]
    x = batch_for(model)
    assert torch.equal(model(x), expected(model, x, functions))


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
def test_without_a_function_a_call_is_left_out(swap):
    model = swap(built("spelled"), {"": ("relu", "sigmoid")}, None)
    x = batch_for(model)
    assert torch.equal(model(x), expected(model, x, [torch.tanh, *[lambda x: x] * 3]))


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
def test_one_use_of_a_shared_module_is_exchanged_and_the_others_stay(swap):
    model = swap(SharedActivation(), {"": (0, 1)}, "relu")
    x = batch_for(model)
    hidden = torch.relu(model.second(torch.relu(model.first(x))))
    assert torch.equal(model(x), torch.sigmoid(model.third(hidden)))


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
def test_what_modules_inside_call_is_theirs(swap):
    outer = nn.Sequential(nn.Linear(6, 6), built("spelled"), nn.Tanh())
    x = batch_for(outer)
    before = outer[1](outer[0](x))
    swap(outer, {"": ("tanh",)}, "relu")
    assert torch.equal(outer(x), torch.relu(before))


@pytest.mark.parametrize(
    ("first", "second"),
    [(swap_calls, swap_calls), (swap_calls, swap_calls_at_run), (swap_calls_at_run, swap_calls_at_run)],
)
def test_two_changes_of_one_forward_add_up(first, second):
    model = first(built("spelled"), {"": (0,)}, "silu")
    second(model, {"": (2,)}, "relu")
    x = batch_for(model)
    assert torch.equal(model(x), expected(model, x, [functional.silu, torch.relu, torch.relu, torch.relu]))
    assert type(model) is Spelled


def test_a_forward_that_was_changed_on_the_object_is_not_written_over():
    model = swap_calls_at_run(built("spelled"), {"": (0,)}, "silu")
    with pytest.raises(TypeError, match=r"forward of Spelled itself, got .*WatchedForward"):
        swap_calls(model, {"": (2,)}, "relu")


@pytest.mark.parametrize("swap", [swap_calls, swap_calls_at_run])
def test_a_changed_forward_is_copied_and_pickled_with_its_module(swap):
    model = swap(built("spelled"), {"": ("tanh", "sigmoid")}, "relu")
    x = batch_for(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - its own bytes
        with torch.no_grad():
            twin.layers[0].weight.zero_()
        assert not torch.equal(twin(x), model(x))
        twin.load_state_dict(model.state_dict())
        assert same(behaviour(twin, x), behaviour(model, x))


def test_control_flow_is_exchanged_at_run_and_cannot_be_traced():
    with pytest.raises(TypeError, match="Proxy"):
        swap_calls(Branching(), {"": ("tanh",)}, "relu")
    model = swap_calls_at_run(Branching(), {"": ("tanh",)}, "relu").eval()
    x = batch_for(model)
    assert torch.equal(model(x), model.third(torch.relu(model.second(torch.relu(model.first(x))))))
    torch.manual_seed(0)
    dropped = model.train()(x)
    assert not torch.equal(dropped, model.eval()(x))


def test_calls_are_exchanged_in_evaluation_too_where_torch_takes_a_short_cut():
    model = built("transformer")
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.TransformerEncoderLayer)]
    swap_calls_at_run(model, dict.fromkeys(layers, ("relu",)), "tanh").eval()
    x = batch_for(model)
    with torch.no_grad():
        quick = model(x)
    torch.testing.assert_close(quick, model(x))
    other = built("transformer").eval()(x)
    assert not torch.allclose(quick, other, atol=1e-4)


def test_hooks_and_their_handles_move_to_the_new_module():
    model = built("mlp")
    handle = model[1].register_forward_hook(noted)
    swap_modules(model, ["1"], nn.ReLU)
    x = batch_for(model)
    hidden = torch.relu(model[0](x))
    assert torch.equal(model[:2](x), 1.5 * hidden)
    handle.remove()
    assert torch.equal(model[:2](x), hidden)


def test_each_name_gets_a_module_of_its_own():
    model = built("one object twice")
    swap_modules(model, ["1", "3"], nn.PReLU, init=0.1)
    assert model[1] is not model[3]
    names = {name for name, _ in model.named_parameters()}
    assert {"1.weight", "3.weight"} <= names
    assert_same_parameters(model, built("one object twice"))


def test_a_new_module_has_the_mode_and_the_type_of_its_place():
    model = built("double")
    model[1].eval()
    swap_modules(model, ["1", "3"], nn.PReLU)
    assert [model[k].training for k in (1, 3)] == [False, True]
    assert model[1].weight.dtype == torch.float64
    assert model(batch_for(model)).dtype == torch.float64


def test_every_nonlinearity_is_known_as_a_module_or_a_function():
    known = {name for name in NONLINEARITIES if hasattr(functional, name) or hasattr(torch, name)}
    assert known == NONLINEARITIES


def test_the_rewritten_forward_belongs_to_one_object():
    changed, other = Spelled(), Spelled()
    swap_calls(changed, {"": ("tanh",)}, "relu")
    assert "forward" not in vars(other)
    assert type(changed) is Spelled
    assert "torch.nn.functional.relu" in changed.forward.source
