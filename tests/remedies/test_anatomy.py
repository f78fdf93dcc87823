"""Each nonlinearity is found with who calls it, from which line, on what, and what its values are for."""

import inspect

import pytest
import torch
from remedy_recipes import Functional, Headed, mlp, recipe
from surgery_networks import NETWORKS, Branching, SharedActivation, Spelled, Tied, batch_for, behaviour, built, same
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from graddoctor.remedies.anatomy import activation_sites, anatomy
from graddoctor.remedies.survey import survey


def of(model, x=None):
    x = batch_for(model) if x is None else x
    given = recipe(model=lambda: model, batches=[x], loss=lambda m, b: m(b).square().mean())
    return anatomy(given, model, x)


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(k for k, line in enumerate(lines) if text in line)


def test_modules_of_activations_are_named_with_who_calls_them():
    given = recipe(model=lambda: mlp(nn.Tanh))
    sites = activation_sites(given, mlp(nn.Tanh))
    assert [(s.kind, s.module, s.owner, s.number, s.index) for s in sites] == [
        ("tanh", "1", "", 0, 0),
        ("tanh", "3", "", 1, 1),
    ]
    assert not any(s.functional or s.output or s.gate for s in sites)


def test_calls_are_named_by_owner_number_and_line():
    sites = of(Spelled()).sites
    assert [s.kind for s in sites] == ["tanh", "relu", "sigmoid", "relu"]
    assert [(s.module, s.owner, s.number) for s in sites] == [("", "", k) for k in range(4)]
    texts = ["torch.tanh", "functional.relu", ".sigmoid()", "relu_()"]
    assert [s.location for s in sites] == [f"surgery_networks.py:{line_of(Spelled.forward, text)}" for text in texts]


def test_a_helper_is_where_the_call_is_written_and_its_caller_owns_it():
    def helper(x):
        return torch.sigmoid(x)

    site, other = of(nn.Sequential(nn.Linear(6, 6), Functional(helper))).sites
    assert (site.owner, site.number) == ("1", 0)
    assert (other.owner, other.number) == ("1", 1)
    assert site.location == other.location == f"test_anatomy.py:{line_of(helper, 'return')}"


def test_a_shared_module_stands_at_several_sites_and_the_last_makes_the_output():
    sites = of(SharedActivation()).sites
    assert [(s.module, s.owner, s.number, s.output) for s in sites] == [
        ("act", "", 0, False),
        ("act", "", 1, False),
        ("act", "", 2, True),
    ]


def test_numbers_begin_anew_with_every_run_of_a_forward():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Functional(torch.tanh)
            self.back = nn.Linear(2, 6)

        def forward(self, x):
            return self.inner(self.back(self.inner(x)))

    sites = of(Twice()).sites
    assert [(s.owner, s.number) for s in sites] == [("inner", 0), ("inner", 1)] * 2


def test_indices_and_kinds_are_those_of_the_survey():
    for name in NETWORKS:
        model = built(name)
        given = recipe(batches=[batch_for(model)], loss=lambda m, b: m(b).square().mean())
        seen = survey(given, model)
        body = anatomy(given, model)
        assert tuple(s.kind for s in body.sites) == seen.activations
        assert [s.index for s in body.sites] == list(range(len(seen.activations)))
        assert [s.index for s in body.sites if s.output] == ([seen.output.index] if seen.output else [])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_left_as_it_was(name):
    model, other = built(name), built(name)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    of(model)
    assert torch.equal(torch.get_rng_state(), state)
    x = batch_for(model)
    model.zero_grad()
    assert [len(m._forward_hooks) for m in model.modules()] == [len(m._forward_hooks) for m in other.modules()]
    assert same(behaviour(model, x), behaviour(other, x))


class Weighing(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.one, self.other, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.way = way

    def forward(self, x):
        return self.out(self.way(self.one(x), self.other(x)))


@pytest.mark.parametrize(
    "way",
    [
        lambda a, b: torch.sigmoid(a) * b,
        lambda a, b: (1 - torch.sigmoid(a)) * b,
        lambda a, b: b.mul(a.tanh()),
        lambda a, _: a * torch.sigmoid(a),
        lambda a, _: a * 0.5 * (1 + torch.erf(a / 1.41)),
        lambda a, _: a.exp() / a.exp().sum(-1, keepdim=True),
        lambda a, b: b / a.square().mean(-1, keepdim=True).sqrt(),
        lambda a, b: torch.softmax(a @ b.T, -1) @ a,
        lambda a, b: torch.lerp(a, b, torch.sigmoid(b)),
        lambda a, _: torch.exp(a) * torch.randn(5, 6),
    ],
)
def test_what_weighs_other_values_is_a_gate(way):
    body = of(Weighing(way))
    assert all(site.gate for site in body.sites)
    assert body.hidden == ()


@pytest.mark.parametrize(
    "way",
    [
        lambda a, b: torch.tanh(a) + torch.sigmoid(b),
        lambda a, b: 0.1 * torch.tanh(a) + b,
        lambda a, _: torch.relu(a) * torch.bernoulli(torch.full((5, 6), 0.5)),
        lambda a, _: functional.dropout(torch.sigmoid(a), 0.5),
        lambda a, _: torch.relu(a).square(),
        lambda a, b: torch.cat([torch.tanh(a), b], 1)[:, :6],
    ],
)
def test_what_is_handed_on_is_none(way):
    body = of(Weighing(way))
    assert body.sites
    assert body.hidden == body.sites


def test_a_gain_and_a_computed_weight_make_no_gate():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.gain = nn.Parameter(torch.ones(6))
            self.second = parametrizations.weight_norm(nn.Linear(6, 2))

        def forward(self, x):
            return self.second(torch.sigmoid(self.first(x)) * self.gain.exp())

    body = of(Scaled())
    assert [s.kind for s in body.hidden] == ["sigmoid"]
    assert "exp" in {s.kind for s in body.sites}


def test_a_hand_written_lstm_is_all_gates():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.gates, self.out = nn.Linear(12, 24), nn.Linear(6, 2)

        def forward(self, x):
            state = memory = torch.zeros(len(x), 6)
            for _ in range(3):
                i, f, o, g = self.gates(torch.cat([x, state], 1)).chunk(4, 1)
                memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
                state = o.sigmoid() * memory.tanh()
            return self.out(state)

    assert of(Cell()).hidden == ()


def test_attention_and_what_is_computed_again_are_not_hidden():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def inner(self, x):
            return torch.tanh(self.first(x))

        def forward(self, x):
            return self.second(torch.relu(checkpoint(self.inner, x, use_reentrant=False)))

    body = of(Again())
    assert [(s.kind, s.recomputed) for s in body.sites] == [("tanh", True), ("relu", False)]
    assert [s.kind for s in body.hidden] == ["relu"]


def test_points_and_what_comes_before_them():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 4), nn.Tanh())
    body = of(nn.Sequential(*model, nn.Linear(4, 2), nn.Softplus()))
    assert [(s.point, s.before, s.shape) for s in body.sites] == [
        ("1", (), (5, 4)),
        ("4", ("1",), (5, 4)),
        ("6", ("4",), (5, 2)),
    ]


def test_a_value_changed_on_the_way_has_no_point():
    assert [s.point for s in of(Headed(lambda z: torch.sigmoid(2 * z))).sites] == ["body.0", ""]


def test_towers_meet_in_one_nonlinearity():
    body = of(Weighing(lambda a, b: torch.tanh(torch.relu(a) + torch.relu(b))))
    assert [s.before for s in body.sites] == [(), (), ("one", "other")]


def test_layers_in_their_order_with_shapes_and_calls():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.conv, self.bare = nn.Linear(24, 2), nn.Conv1d(1, 4, 3, padding=1), nn.ReLU()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            return self.out(self.norm(self.norm(self.bare(self.conv(x[:, None])))).flatten(1))

    assert [(y.name, y.input_shape, y.output_shape, y.calls) for y in of(Turned()).layers] == [
        ("conv", (5, 1, 6), (5, 4, 6), 1),
        ("norm", (5, 4, 6), (5, 4, 6), 2),
        ("out", (5, 24), (5, 2), 1),
    ]
    assert of(Tied()).layer("second").calls == 1
    assert of(Tied()).layer("act") is None


def test_modules_that_hold_nothing_and_keep_the_shape_are_elementwise():
    class Wave(nn.Module):
        def forward(self, x):
            return torch.tanh(40 * x)

    body = of(nn.Sequential(nn.Linear(6, 6), Wave(), nn.Flatten(0), nn.Unflatten(0, (-1, 6))))
    assert "1" in body.elementwise
    assert body.sites[0].owner == "1"
    assert of(Branching()).elementwise == frozenset()
