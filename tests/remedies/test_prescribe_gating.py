"""Gates are opened where they are shut, cells without get some, and recurrent weights keep the norm of a state."""

import copy
import math

import pytest
import torch
from pasted import assert_same_when_pasted
from recurrent_networks import Joined, Layer, OwnGates, Packed, Raw, Spelled, Stepped, remembering
from remedy_recipes import mlp, recipe
from torch import nn

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import forget_bias, gated_cell, gated_cells, gates_opened, is_shut
from graddoctor.remedies.initialization import critical, lsuv, reinitialised
from graddoctor.remedies.plain.recurrent import open_gates
from graddoctor.remedies.recurrent_start import identity, is_recurrent, radius, recurrence_restarted, rescaled
from graddoctor.terms import Cause
from graddoctor.train import build_model, train


def with_gates(kind=nn.LSTM, bias=-5.0, **options):
    def build():
        model, place = Layer(kind, **options), 16  # the second gate: of an LSTM to forget, of a GRU to update
        with torch.no_grad():
            model.cell.bias_ih_l0[place : 2 * place] = bias
            model.cell.bias_hh_l0[place : 2 * place] = 0.0
        return model

    return build


def rectified(gain=3.0):
    model = Layer(nonlinearity="relu")
    with torch.no_grad():
        model.cell.weight_hh_l0.copy_(gain * torch.eye(16))
    return model


def end_of(outcome):
    return float(outcome.losses[-10:].mean())


def wild():
    """A tanh cell whose recurrent weights have a spectral radius of about three."""
    model = Layer()
    nn.init.normal_(model.cell.weight_hh_l0, std=3 / 4)
    return model


CURED = {
    "tanh": (gated_cell, Layer, 0.02),
    "tanh, GRU": (lambda facts: gated_cells(facts)[2], Layer, 0.02),
    "wild": (lambda facts: gated_cells(facts)[2], wild, 0.02),
    "cell": (gated_cell, Stepped, 0.02),
    "by hand": (gated_cell, Spelled, 0.02),
    "joined": (gated_cell, Joined, 0.02),
    "shut LSTM": (gates_opened, with_gates(), 0.02),
    "shut LSTM, one bias": (forget_bias, with_gates(), 0.005),
    "shut GRU": (gates_opened, with_gates(nn.GRU), 0.02),
    "orthogonal": (recurrence_restarted, Layer, 0.01),
    "rectified": (recurrence_restarted, rectified, 0.003),
    "identity": (identity, rectified, 0.003),
    "radius": (rescaled, rectified, 0.003),
}


@pytest.mark.parametrize(("prescribe", "build", "rate"), CURED.values(), ids=CURED)
def test_the_right_remedy_remembers_what_was_forgotten(prescribe, build, rate):
    given = remembering(build, rate, steps=48, epochs=20 if rate > 0.01 else 25)
    sick, cured = train(given), train(prescribe(Facts(given))(given))
    assert not end_of(sick) < 0.6
    assert end_of(cured) < 0.4


WAYS = {
    "layer": (Layer, ("cell",)),
    "packed": (Packed, ("cell",)),
    "stack": (lambda: Layer(nn.GRU, num_layers=2, bidirectional=True), ("cell",)),
    "projected": (lambda: Layer(nn.LSTM, proj_size=16, size=20), None),
    "cell": (Stepped, ("cell",)),
    "LSTM cell": (lambda: Stepped(nn.LSTMCell), ("cell",)),
    "by hand": (Spelled, ("h2h",)),
    "joined": (Joined, ("i2h",)),
    "bare": (Raw, ("w",)),
    "gates by hand": (OwnGates, ("h2g",)),
    "none": (None, ()),
}


@pytest.mark.parametrize(("build", "names"), [way for way in WAYS.values() if way[1] is not None])
def test_what_carries_a_state_is_found(build, names):
    facts = Facts(remembering(build, epochs=1) if build else recipe())
    assert is_recurrent(facts) == names
    assert all(one.steps == 24 for one in facts.carriers)
    assert all(one.packed is (build is Packed) for one in facts.carriers)


def test_looking_changes_nothing():
    given = remembering(Spelled, epochs=1)
    facts = Facts(given)
    before, state = copy.deepcopy(facts.model.state_dict()), torch.get_rng_state()
    assert is_recurrent(facts)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in facts.model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in facts.model.modules())


def frozen():
    model = Layer()
    model.cell.requires_grad_(requires_grad=False)
    return model


class Own(nn.RNN):
    """What a subclass makes of its weights is its own."""


SOUND = {
    "no state": recipe(model=mlp),
    "open LSTM": remembering(with_gates(bias=3.0), epochs=1),
    "open GRU": remembering(with_gates(nn.GRU, bias=3.0), epochs=1),
    "few steps": remembering(lambda: Layer(nn.LSTM), epochs=1, steps=5),
    "frozen": remembering(frozen, epochs=1),
    "a class of its own": remembering(lambda: Layer(Own), epochs=1),
    "no biases": remembering(lambda: Layer(nn.LSTM, bias=False), epochs=1),
    "gates by hand": remembering(OwnGates, epochs=1),
}


@pytest.mark.parametrize("given", SOUND.values(), ids=SOUND)
def test_what_remembers_is_given_no_other_gates(given):
    facts = Facts(given)
    assert gates_opened(facts) is None
    assert forget_bias(facts) is None
    assert gated_cell(facts) is None
    assert gated_cells(facts) == []


@pytest.mark.parametrize("given", [SOUND["no state"], SOUND["frozen"]])
def test_where_nothing_carries_a_state_no_recurrence_is_started_again(given):
    facts = Facts(given)
    assert recurrence_restarted(facts) is None
    assert identity(facts) is None
    assert rescaled(facts) is None


def test_cells_are_exchanged_once_and_gates_opened_once():
    for build, prescribe in ((Layer, gated_cell), (Spelled, gated_cell), (with_gates(), gates_opened)):
        facts = Facts(remembering(build, epochs=1))
        assert prescribe(facts.after(prescribe(facts))) is None


def test_names_causes_costs_and_places():
    facts = Facts(remembering(Layer, epochs=1))
    found = gated_cells(facts)
    assert [one.name for one in found] == [
        "LSTM open for 24 steps in place of RNN",
        "LSTM with bias 3.2 in place of RNN",
        "GRU with bias 3.2 in place of RNN",
        "GRU open for 24 steps in place of RNN",
    ]
    assert all(one.causes == (Cause.RECURRENCE,) and one.modules == ("cell",) for one in found)
    before, after = (
        sum(p.numel() for p in build_model(given).parameters()) for given in (facts.recipe, found[0](facts.recipe))
    )
    assert found[0].cost == f"{after - before} parameters ({before} before)"
    assert gates_opened(Facts(remembering(with_gates(), epochs=1))).causes == (Cause.GATES,)


def gates(forget=1.0, entrance=0.0, out=0.0):
    lstm = open_gates(nn.LSTM(2, 4), [""], bias=forget)
    with torch.no_grad():
        lstm.bias_ih_l0[:4], lstm.bias_ih_l0[12:] = entrance, out
    return lstm


@pytest.mark.parametrize(
    ("module", "steps", "shut"),
    [
        (nn.LSTM(2, 64), 40, True),
        (nn.GRU(2, 64), 40, True),
        (gates(1.0), 12, False),
        (gates(1.0), 40, True),
        (gates(4.0), 200, False),
        (gates(3.0, entrance=-10.0), 40, True),
        (gates(3.0, out=-10.0), 40, True),
        (open_gates(nn.GRU(2, 4), [""], bias=12.0), 40, True),
        (open_gates(nn.GRU(2, 4), [""], bias=3.0), 40, False),
        (open_gates(nn.LSTM(2, 4), [""], steps=100), 100, False),
    ],
)
def test_gates_are_shut_that_forget_within_a_quarter_or_never_write(module, steps, shut):
    assert is_shut(module, steps) is shut


# Starts


def test_recurrent_weights_are_orthogonal_whatever_else_they_are_given():
    for build, weight, gain in ((Layer, "cell.weight_hh_l0", 1.0), (Spelled, "h2h.weight", 4.0), (Raw, "w", 1.0)):
        for prescribe in (recurrence_restarted, critical, lsuv):
            given = remembering(build, epochs=1)
            value = build_model(prescribe(Facts(given))(given)).get_parameter(weight)
            assert torch.allclose(value @ value.T, gain**2 * torch.eye(16), atol=1e-3)


def test_inputs_beside_the_state_leave_it_its_radius():
    given = remembering(lambda: Joined(128), epochs=1)
    value = build_model(recurrence_restarted(Facts(given))(given)).i2h.weight.detach()
    assert float(value.std()) == pytest.approx(128**-0.5, rel=0.02)
    assert 0.85 < radius(value[:, 5:]) < 1.15


def test_a_critical_start_opens_gates_that_are_shut_and_leaves_open_ones_alone():
    for bias, opened in ((-5.0, True), (3.0, False)):
        given = remembering(with_gates(bias=bias), epochs=1)
        before = build_model(given).cell.bias_ih_l0
        for treated in (critical(Facts(given))(given), reinitialised()(given)):
            after = build_model(treated).cell.bias_ih_l0
            assert torch.equal(before, after) is not opened
            assert bool((after[16:32] >= 0).all())
        restarted = build_model(recurrence_restarted(Facts(given))(given))
        assert torch.equal(restarted.cell.bias_ih_l0, before)


def test_a_tanh_cell_that_is_restarted_keeps_its_gradient():
    lost = []
    given = remembering(lambda: Layer(size=64), epochs=1, steps=60)
    for one in (given, recurrence_restarted(Facts(given))(given)):
        model, x = build_model(one), torch.randn(8, 60, 5, requires_grad=True)
        model(x).square().sum().backward()
        sizes = x.grad.norm(dim=(0, 2))
        lost.append(float((sizes[0] / sizes[-1]).log10()))
    assert lost[0] < -8
    assert lost[1] > -5


def test_a_sigmoid_by_hand_that_is_restarted_keeps_its_gradient():
    lost = []
    given = remembering(lambda: Spelled(size=64), epochs=1, steps=40)
    for one in (given, recurrence_restarted(Facts(given))(given)):
        model, x = build_model(one), 0.1 * torch.randn(8, 40, 5)
        x.requires_grad_()
        model(x).square().sum().backward()
        sizes = x.grad.norm(dim=(0, 2))
        lost.append(float((sizes[0] / sizes[-1]).log10()))
    assert lost[0] < -20
    assert lost[1] > -4


def test_an_exploding_recurrence_is_scaled_to_a_radius_of_one():
    def build():
        model = Layer()
        nn.init.normal_(model.cell.weight_hh_l0, std=3 / 4)
        return model

    given = remembering(build, epochs=1)
    remedy = rescaled(Facts(given))
    treated, before = build_model(remedy(given)), build_model(given)
    assert radius(before.cell.weight_hh_l0) > 2
    assert radius(treated.cell.weight_hh_l0) == pytest.approx(1, rel=1e-3)
    assert torch.equal(treated.cell.weight_ih_l0, before.cell.weight_ih_l0)
    assert remedy.modules == ("cell",)
    assert rescaled(Facts(remedy(given))) is None
    assert math.isnan(radius(torch.zeros(2, 3)))


def test_the_identity_is_for_rectifiers():
    given = remembering(rectified, epochs=1)
    treated = build_model(identity(Facts(given))(given)).cell
    assert torch.equal(treated.weight_hh_l0, torch.eye(16))
    assert not treated.bias_ih_l0.any()
    assert float(treated.weight_ih_l0.detach().std()) == pytest.approx(1e-3, rel=0.3)
    by_hand = identity(Facts(remembering(lambda: Spelled(torch.relu), epochs=1)))
    assert by_hand.modules == ("h2h",)
    for build in (Layer, Spelled, lambda: Layer(nn.LSTM), OwnGates):
        assert identity(Facts(remembering(build, epochs=1))) is None


def test_all_starts_leave_the_gate_beside_a_state_alone():
    given = remembering(Spelled, epochs=1)
    gated = gated_cell(Facts(given))
    before = build_model(gated(given)).h2h.state_gate
    facts = Facts(given).after(gated)
    for start in (critical(facts), recurrence_restarted(facts), lsuv(facts)):
        after = build_model(start(facts.recipe)).h2h.state_gate
        assert torch.equal(before.weight, after.weight)
        assert torch.equal(before.bias, after.bias)


PASTED = {
    "LSTM": (gated_cell, Layer),
    "GRU": (lambda facts: gated_cells(facts)[2], lambda: Layer(num_layers=2, bidirectional=True, dropout=0.2)),
    "packed": (gated_cell, Packed),
    "cell": (gated_cell, Stepped),
    "by hand": (gated_cell, Spelled),
    "joined": (gated_cell, Joined),
    "chrono": (gates_opened, with_gates()),
    "bias": (forget_bias, with_gates(nn.GRU)),
    "orthogonal": (recurrence_restarted, Spelled),
    "identity": (identity, rectified),
    "radius": (rescaled, Raw),
    "critical": (critical, with_gates()),
    "critical by hand": (critical, Spelled),
}


@pytest.mark.parametrize(("prescribe", "build"), PASTED.values(), ids=PASTED)
def test_what_is_pasted_is_what_was_proven(prescribe, build):
    given = remembering(build)
    assert_same_when_pasted(given, prescribe(Facts(given)), steps=3)
