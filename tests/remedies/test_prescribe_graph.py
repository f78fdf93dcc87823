"""What is cut off is attached where that is the fault, the line is named, and nothing whole is touched."""

import copy
import inspect

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import strategies as st
from pasted import assert_same_when_pasted
from remedy_recipes import cross_entropy, data, mlp, recipe, sgd
from somebodys_loop import plain_loop
from torch import nn
from torch.nn import functional

from graddoctor.errors import RecipeError
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.graph import detaches, everything_trained, hooks_off, nothing_detached
from graddoctor.remedies.plain.graph import attached_loss, hookless_loss, remove_gradient_hooks, unfreeze
from graddoctor.terms import Cause

BATCH = data()


class Net(nn.Module):
    """Something is done to its features on their way to the head."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.way = nn.Linear(6, 8), nn.Linear(8, 2), way
        self.body.weight.data *= 0.02

    def forward(self, x):
        return self.head(self.way(torch.tanh(self.body(x))))


def whole(z):
    return z


def detached(z):
    print("kept for a look:", z.detach().numpy().shape)  # noqa: T201 - no fault
    return z.detach()  # here it is


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(k for k, line in enumerate(lines) if text in line)


def not_recorded(z):
    with torch.no_grad():  # here it is
        return z * 1


def through_data(z):
    return z.data  # here it is


CUTS = {"detach": detached, "no_grad": not_recorded, "data": through_data}


def training(way, **changes):
    parts = {"model": lambda: Net(way), "epochs": 30, "optimizer": lambda m: sgd(m, 0.5)}
    return recipe(**{**parts, **changes})


def end(losses):
    return sum(losses[-4:]) / 4


@pytest.mark.parametrize("way", CUTS.values(), ids=CUTS.keys())
def test_what_is_cut_off_is_trained_in_anybodys_loop(way):
    given = training(way)
    remedy = nothing_detached(Facts(given))
    assert remedy.causes == (Cause.GRAPH,)
    assert remedy.modules == ("body",)
    losses, _ = plain_loop(remedy(given))
    assert losses == plain_loop(training(lambda z: z * 1))[0]
    assert end(losses) < 0.9 * end(plain_loop(given)[0])


@pytest.mark.parametrize("way", CUTS.values(), ids=CUTS.keys())
def test_the_line_is_named_and_no_other(way):
    (edit,) = nothing_detached(Facts(training(way))).edits
    assert edit.note.endswith(f"test_prescribe_graph.py:{line_of(way, 'here it is')}.")


def test_two_lines_that_cut_together_are_both_named():
    def twice(z):
        z = z.detach()
        return z.data

    (edit,) = nothing_detached(Facts(training(twice))).edits
    first = line_of(twice, "z.detach()")
    assert f":{first}," in edit.note
    assert edit.note.endswith(f":{first + 1}.")


def beside(z):
    return z - 0.1 * z.detach()


LEFT_ALONE = {
    "whole": training(whole),
    "detached beside a way that is whole": training(beside),
    "frozen, and not cut off": training(whole, model=lambda: frozen(Net(whole))),
    "sign": training(torch.sign),
    "unused": training(torch.ones_like),
}


def frozen(model):
    model.body.requires_grad_(False)
    return model


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_not_cut_off_by_detaching_is_left_alone(name):
    assert nothing_detached(Facts(LEFT_ALONE[name])) is None


def test_a_trip_through_numpy_is_named_and_left_alone():
    def trip(z):
        return torch.tensor(z.detach().numpy())

    with pytest.raises(RecipeError, match=rf"test_prescribe_graph.py:{line_of(trip, 'numpy()')}, and no gradient"):
        nothing_detached(Facts(training(trip)))


def test_what_cannot_be_computed_attached_is_named():
    def checked(z):
        z = z.detach()
        assert not z.requires_grad
        return z

    line = line_of(checked, "assert")
    with pytest.raises(RecipeError, match=rf"test_prescribe_graph.py:{line}: `assert not z.requires_grad` raised"):
        nothing_detached(Facts(training(checked)))


# Hooks


def clamped():
    model = Net(whole)
    for parameter in model.parameters():
        parameter.register_hook(lambda g: g.clamp(-1e-6, 1e-6))
    return model


def hooked(z):
    if z.requires_grad:
        z.register_hook(lambda g: g * 1e-6)
    return z


@pytest.mark.parametrize("given", [training(hooked), training(whole, model=clamped)], ids=["tensor", "parameter"])
def test_hooks_that_swallow_the_gradient_are_taken_off_in_anybodys_loop(given):
    remedy = hooks_off(Facts(given))
    assert remedy.causes == (Cause.CLIPPING,)
    losses, _ = plain_loop(remedy(given))
    assert losses == plain_loop(training(whole))[0]
    assert end(losses) < 0.9 * end(plain_loop(given)[0])


def test_the_lines_of_hooks_are_named():
    note = hooks_off(Facts(training(hooked))).edits[-1].note
    assert note.endswith(f"test_prescribe_graph.py:{line_of(hooked, 'register_hook')}.")
    note = hooks_off(Facts(training(whole, model=clamped))).edits[-1].note
    assert note.endswith(f"test_prescribe_graph.py:{line_of(clamped, 'register_hook')}.")


def watched():
    model, seen = Net(whole), []
    for parameter in model.parameters():
        parameter.register_hook(lambda g: seen.append(g.norm()))
    return model


def without_numbers():
    model = watched()
    model.body.weight.data.fill_(torch.nan)
    return model


@pytest.mark.parametrize(
    "model",
    [watched, lambda: Net(whole), without_numbers],
    ids=["hooks that look on", "no hooks", "gradients that are no numbers"],
)
def test_hooks_that_change_nothing_are_left_alone(model):
    assert hooks_off(Facts(training(whole, model=model))) is None


# Frozen


def test_what_was_frozen_is_trained_in_anybodys_loop():
    given = training(whole, model=lambda: frozen(Net(whole)))
    remedy = everything_trained(Facts(given))
    assert remedy.causes == (Cause.GRAPH,)
    assert remedy.modules == ("body",)
    assert "body" in remedy.edits[0].note
    assert plain_loop(remedy(given))[0] == plain_loop(training(whole))[0]


def test_a_network_that_is_trained_whole_is_left_alone():
    assert everything_trained(Facts(training(whole))) is None


def test_whole_numbers_are_no_frozen_weights():
    def build():
        model = Net(whole)
        model.count = nn.Parameter(torch.zeros(2, dtype=torch.long), requires_grad=False)
        return model

    assert everything_trained(Facts(training(whole, model=build))) is None
    assert not unfreeze(build()).count.requires_grad


# All


CASES = {
    "detached": (training(lambda z: z.detach(), epochs=2), nothing_detached),
    "no_grad": (training(not_recorded, epochs=2), nothing_detached),
    "hooks": (training(hooked, epochs=2), hooks_off),
    "parameter hooks": (training(whole, model=clamped, epochs=2), hooks_off),
    "frozen": (training(whole, model=lambda: frozen(Net(whole)), epochs=2), everything_trained),
}


@pytest.mark.parametrize(("given", "prescribe"), CASES.values(), ids=CASES.keys())
def test_what_is_pasted_trains_alike(given, prescribe):
    assert_same_when_pasted(given, prescribe(Facts(given)))


@pytest.mark.parametrize(("given", "prescribe"), CASES.values(), ids=CASES.keys())
def test_prescribing_leaves_randomness_and_the_network_alone(given, prescribe):
    facts = Facts(given)
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in facts.model.named_parameters()}
    state = torch.get_rng_state()
    prescribe(facts)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    for name, p in facts.model.named_parameters():
        assert p.requires_grad == before[name][0]
        assert torch.equal(p, before[name][1])
        assert p.grad is None


def dropping():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


@for_all(st.integers(0, 2**31), st.sampled_from([attached_loss, hookless_loss]))
def test_a_whole_loss_is_the_same_to_the_last_bit(seed, treated):
    torch.manual_seed(seed)
    model = dropping()
    twin = copy.deepcopy(model)
    for net, loss in ((model, cross_entropy), (twin, lambda m, b: treated(m, b, cross_entropy))):
        torch.manual_seed(seed)
        loss(net, BATCH).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers(), strict=True))


def test_surgery_keeps_the_state_and_validation_without_gradients():
    model = mlp()
    state = copy.deepcopy(model.state_dict())
    treated = unfreeze(remove_gradient_hooks(model)).eval()
    assert not treated.training
    assert all(torch.equal(a, b) for a, b in zip(state.values(), treated.state_dict().values(), strict=True))
    with torch.no_grad():
        assert not attached_loss(treated, BATCH, cross_entropy).requires_grad
        assert functional.linear(BATCH[0], treated[0].weight).requires_grad is False


class Rolled(nn.Module):
    """A loop whose state is cut off at every step: all parameters get a gradient, of the last step alone."""

    def __init__(self, cut):
        super().__init__()
        self.read, self.keep, self.head, self.cut = nn.Linear(1, 8), nn.Linear(8, 8), nn.Linear(8, 2), cut

    def forward(self, x):
        state = x.new_zeros(len(x), 8)
        for t in range(x.shape[1]):
            state = torch.tanh(self.read(x[:, t, None]) + self.keep(self.cut(state)))
        return self.head(state)


def test_a_cut_that_leaves_every_parameter_a_gradient_is_seen_by_what_it_changes():
    assert detaches(recipe(model=lambda: Rolled(torch.detach)))
    assert not detaches(recipe(model=lambda: Rolled(lambda state: state)))
    assert not detaches(recipe(model=lambda: Net(lambda z: z + 0 * float(z.detach().mean()))))
