"""What the pictures show, against slow twins: autograd in float64, loops one by one, theory."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import graddoctor as gd
from graddoctor.explain.pictures import (
    PICTURES,
    dying,
    edge,
    flow,
    movement,
    profile,
    sixteen_bits,
    skips,
    slopes,
    training,
)
from graddoctor.explain.pictures import signal as forward
from graddoctor.explain.pictures import through_time as time
from graddoctor.lab import digits, sequences
from graddoctor.lab.table import Row, Table
from graddoctor.randomness import seeded

pytest.importorskip("sklearn")


def measured(module, **arm):
    with seeded(0):
        return module.measure(seed=0, **arm)


@pytest.fixture(scope="module")
def sigmoid():
    return measured(flow, activation="sigmoid", scale=1.4)


def network(depth, scale=1.4):
    """The network that was looked at, once more, in float64."""
    with seeded(0):
        batch = digits.batch(64)
        torch.manual_seed(0)
        layers = [nn.Linear(a, b) for a, b in zip([64] + [128] * (depth - 1), [128] * (depth - 1) + [10], strict=True)]
    with seeded(0):
        digits.batch(64)
        torch.manual_seed(0)
        for layer in layers:
            fresh = nn.Linear(layer.in_features, layer.out_features)
            nn.init.normal_(fresh.weight, std=scale / layer.in_features**0.5)
            with torch.no_grad():
                layer.weight.copy_(fresh.weight)
                layer.bias.zero_()
    return [layer.double() for layer in layers], batch


def test_the_profile_is_that_of_autograd(sigmoid):
    layers, (images, labels) = network(10)
    hidden = [images.double()]
    for layer in layers[:-1]:
        hidden.append(torch.sigmoid(layer(hidden[-1])).requires_grad_())
        hidden[-1].retain_grad()
    nn.functional.cross_entropy(layers[-1](hidden[-1]), labels).backward()
    norms = [float(one.grad.norm()) for one in hidden[1:]]
    assert sigmoid["gradient 10"] == pytest.approx([math.log10(one / norms[-1]) for one in norms], abs=1e-4)
    spread = [float((one - one.mean(dim=0)).norm()) for one in map(torch.Tensor.detach, hidden[1:])]
    assert sigmoid["signal 10"] == pytest.approx([math.log10(one / spread[0]) for one in spread], abs=1e-3)


def test_every_depth_has_a_value_for_every_hidden_layer(sigmoid):
    rectifier = measured(flow, activation="none", scale=0.4)
    for one in (sigmoid, rectifier):
        for depth in flow.DEPTHS:
            assert len(one[f"gradient {depth}"]) == len(one[f"signal {depth}"]) == depth - 1
            assert one[f"gradient {depth}"][-1] == 0.0


def test_theory_and_slopes_agree_with_the_networks(sigmoid):
    table = Table([Row({"activation": "sigmoid", "scale": 1.4}, 0, sigmoid)])
    assert edge.per_layer(table.rows[0]) == pytest.approx(sigmoid["theory"], rel=0.05)
    assert math.log10(sigmoid["slope"] * 1.4) == pytest.approx(sigmoid["theory"], rel=0.05)
    assert sum(sigmoid["entering"]) == pytest.approx(1)
    assert "it shrinks" in slopes.told(table, activation="sigmoid", scale=1.4)


def test_what_no_number_is_left_for_is_said_to_be_so():
    values = measured(flow, activation="sigmoid", scale=0.4)
    table = Table([Row({"activation": "sigmoid", "scale": 0.4}, 0, values)])
    said = profile.told(table, activation="sigmoid", scale=0.4, depth=50)
    assert said.startswith("With 50 layers nothing reaches the first one")
    assert "all samples are the same to float32" in forward.told(table, activation="sigmoid", scale=0.4)
    shrunk = measured(flow, activation="tanh", scale=0.4)
    table_ = Table([Row({"activation": "tanh", "scale": 0.4}, 0, shrunk)])
    said = forward.told(table_, activation="tanh", scale=0.4)
    assert "what tells samples apart is, against the first: about" in said, "small, but not the same"
    rows = [row for row in profile._measured(table) if row["depth"] == 50]
    assert rows[0]["decades"] is None
    assert rows[-1]["decades"] == 0


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({0.5: -0.4, 1.0: -0.2, 2.0: 0.2}, "With tanh the gradient keeps its size near σ_w = 1.41;"),
        (
            {0.4: -0.9, 1.0: -0.6, 4.0: -0.2},
            "With tanh none of these scales keeps it: the best, 4.0, changes it by -0.20",
        ),
    ],
)
def test_the_edge_is_where_theory_has_it(rates, said):
    rows = [Row({"activation": "tanh", "scale": scale}, 0, {"theory": rate}) for scale, rate in rates.items()]
    assert edge.told(Table(rows), activation="tanh").startswith(said)


@pytest.mark.parametrize("radius", [0.6, 1.1])
def test_a_look_through_time_is_that_of_autograd(radius):
    values = measured(time, cell="tanh RNN", setting=radius)["decades"]
    with seeded(0):
        torch.manual_seed(0)
        recipe = sequences.recipe("recall", time._BUILD["tanh RNN"](radius), time.STEPS, seed=0, rate=0.0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            inputs = sequences.batch(recipe)[0].double()
        cell = recipe.model().cell.double().requires_grad_(False)
    states = [torch.zeros(len(inputs), time.HIDDEN, dtype=torch.float64)]
    for step in range(time.STEPS):
        states.append(
            torch.tanh(
                inputs[:, step] @ cell.weight_ih_l0.T
                + cell.bias_ih_l0
                + states[-1] @ cell.weight_hh_l0.T
                + cell.bias_hh_l0
            )
        )
    jacobians = [torch.diag_embed(1 - state**2) @ cell.weight_hh_l0 for state in states[1:]]
    cotangent = torch.randn(len(inputs), 1, time.HIDDEN, dtype=torch.float64)
    norms = [cotangent.norm()]
    for jacobian in reversed(jacobians[1:]):
        cotangent = cotangent @ jacobian
        norms.append(cotangent.norm())
    expected = np.log10([float(norm / norms[0]) for norm in norms])
    assert len(values) == time.STEPS
    assert np.allclose(values, expected, atol=0.35)  # another cotangent was drawn
    assert np.polyfit(range(100), values, 1)[0] == pytest.approx(np.polyfit(range(100), expected, 1)[0], abs=0.004)


def test_gates_that_are_open_hand_on_and_shut_ones_do_not():
    shut, opened = (measured(time, cell="LSTM", setting=bias)["decades"][-1] for bias in (0.0, 5.0))
    assert shut < -15
    assert opened > -1.5


def test_blocks_are_those_of_autograd():
    values = measured(skips, activation="tanh", depth=5, kind=skips.SCALED)["decades"]
    with seeded(0):
        build = lambda: nn.Sequential(nn.Tanh(), nn.Linear(64, 64))  # noqa: E731
        model = skips.residual(5, build, width=64, scale=5**-0.5).double()
        images, labels = digits.batch(64)
    streams = [model[0](images.double()).detach().requires_grad_()]
    for block in model[1:-1]:
        streams.append(block(streams[-1]))
        streams[-1].retain_grad()
    nn.functional.cross_entropy(model[-1](streams[-1]), labels).backward()
    norms = [float(stream.grad.norm()) for stream in streams]
    assert values == pytest.approx([math.log10(norm / norms[-1]) for norm in norms], abs=1e-4)


def test_plain_blocks_lose_and_scaled_ones_keep():
    ends = {kind: measured(skips, activation="tanh", depth=20, kind=kind)["decades"][0] for kind in skips._KINDS}
    assert ends[skips.PLAIN] < -3
    assert abs(ends[skips.SCALED]) < 0.3
    assert ends[skips.ADDED] > ends[skips.SCALED]


def test_dead_networks_are_counted_as_one_by_one(monkeypatch):
    monkeypatch.setattr(dying, "NETWORKS", 30)
    monkeypatch.setattr(dying, "DEEPEST", 8)
    dead = measured(dying, units=2)["dead"]
    with seeded(0):
        x = torch.randn(dying.SAMPLES, 2).double()
        weights = [torch.randn(30, 2, 2) for _ in range(8)]
    alive = []
    for place in range(30):
        signal, seen = x, []
        for layer in weights:
            signal = (signal @ layer[place].double()).relu()
            seen.append(bool((signal > 0).any()))
        alive.append(seen)
    assert dead == pytest.approx((1 - np.mean(alive, axis=0)).tolist())


def test_fewer_networks_are_dead_than_theory_allows():
    values = measured(dying, units=4)
    slack = 3 * math.sqrt(0.25 / dying.NETWORKS)
    assert all(dead <= bound + slack for dead, bound in zip(values["dead"], values["bound"], strict=True))
    assert sorted(values["dead"]) == values["dead"], "a dead network stays dead"


def test_what_float16_loses_is_counted_as_one_by_one():
    gradient = torch.tensor([0.0, 1e-9, -3e-8, 2e-7, 1.0, -70000.0])
    for scale in (1.0, 2.0**4, 2.0**16):
        with np.errstate(over="ignore"):
            values = [float(np.float16(value * scale)) for value in gradient.tolist() if value]
        lost = [value == 0 or math.isinf(value) for value in values]
        assert sixteen_bits._lost(gradient, scale) == pytest.approx(np.mean(lost))
    assert sixteen_bits._lost(torch.zeros(3), 1.0) == 1.0


def test_early_layers_of_a_sigmoid_network_are_lost_first():
    values = measured(sixteen_bits, activation="sigmoid", depth=10)
    first, last = values["first layer"], values["last layer"]
    assert first[0] > 0.9
    assert last[0] < 0.1
    assert last[-1] > 0.9, "too large a scale makes it infinite"


@pytest.mark.parametrize("remedy", training.REMEDIES)
def test_a_remedy_is_in_the_network_or_its_training(remedy):
    given, plan = training.PATIENTS["sigmoid"], training.REMEDIES[remedy](training.PATIENTS["sigmoid"])
    assert (plan != given) == (remedy != training.NOTHING)
    model = training.build(plan, 6)
    images, _ = digits.batch(16)
    assert model(images).shape == (16, 10)
    assert sum(isinstance(one, nn.Linear) for one in model.modules()) == 6
    assert any(isinstance(one, nn.BatchNorm1d) for one in model.modules()) == plan.normalised
    assert {block.share for block in model[1:-1]} == {6**-0.5 if plan.skips else 0.0}
    assert {*training._parts(plan, 0.1)} == ({"optimizer"} if plan.adam else {"clip"} if plan.clip else set())


def test_training_gives_what_a_plain_loop_gives(monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setattr(training, "POINTS", 11)
    monkeypatch.setattr(training, "RATES", (0.1,))
    values = measured(training, patient="tanh", depth=3, remedy=training.NOTHING)
    plan = training.PATIENTS["tanh"]
    recipe = digits.recipe(lambda: training.build(plan, 3), seed=0, rate=0.1, epochs=2)
    outcome = gd.train(recipe)
    assert values["loss"] == pytest.approx(outcome.losses.reshape(11, 2).mean(axis=1))
    assert values["accuracy"] == outcome.evaluation
    assert len(values["moved"]) == 3
    assert all(moved > 0 for moved in values["moved"])


def test_weights_that_are_no_longer_finite_are_said_to_be_so():
    rows = [
        Row({"patient": "ReLU", "depth": 3, "remedy": remedy}, 0, {"moved": moved, "accuracy": 0.1})
        for remedy, moved in ((training.NOTHING, [math.nan] * 3), ("Adam", [1e-3, 1e-1, 1e-1]))
    ]
    said = movement.told(Table(rows), patient="ReLU", depth=3)
    assert said.startswith("With SGD the first layer is lost with all others")
    assert "with Adam it moves 100 times less than the last hidden one, and 10 %" in said


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_settings_of_a_picture_are_what_is_run_for_it(picture):
    assert {control.start for control in picture.controls} <= {
        value for control in picture.controls for value in control.values
    }
    assert len({json.dumps(setting) for setting in picture.settings()}) == math.prod(
        len(control.values) for control in picture.controls
    )
    assert len({tuple(sorted(arm.items())) for arm in picture.study.arms}) == len(picture.study.arms)
