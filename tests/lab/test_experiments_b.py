"""Born dead, optimizers, decay, batch normalization, depth, isometry, half precision: what they measure."""

import math

import numpy as np
import pytest
import torch

from graddoctor.lab.experiments import (
    batch_norm,
    dying_relu,
    half_precision,
    isometry,
    optimizers,
    trainable_depth,
    weight_decay,
)
from graddoctor.lab.table import Row, Table
from graddoctor.randomness import seeded

pytest.importorskip("sklearn")


def measured(experiment, seed=0, **arm):
    with seeded(seed):
        return experiment.EXPERIMENT.measure(seed=seed, **arm)


@pytest.mark.parametrize(("width", "depth"), [(2, 2), (3, 5), (4, 20), (8, 50)])
def test_for_a_single_input_the_bound_is_the_probability(width, depth, monkeypatch):
    monkeypatch.setattr(dying_relu, "INPUTS", 1)
    monkeypatch.setattr(dying_relu, "NETWORKS", 4000)
    found = measured(dying_relu, width=width, depth=depth)
    error = math.sqrt(found["bound"] * (1 - found["bound"]) / 4000)
    assert found["dead"] == pytest.approx(found["bound"], abs=4 * error)


def test_with_more_inputs_fewer_networks_are_dead():
    found = measured(dying_relu, width=4, depth=10)
    assert 0.1 < found["dead"] < found["bound"] - 0.1


def test_a_share_above_its_bound_is_seen():
    rows = [Row({"width": w}, seed, {"dead": 0.5, "bound": w / 10}) for w in (2, 8) for seed in (0, 1)]
    (question,) = [one for one in dying_relu.EXPERIMENT.questions if one.says.startswith("No share")]
    assert question.effect(Table(rows)) == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(
    ("activation", "optimizer", "low", "high"),
    [("sigmoid", "Adam", 0.0, 0.3), ("tanh", "SGD", 0.0, 0.3), ("tanh", optimizers.CURED, 0.8, 1.0)],
)
def test_a_start_helps_where_adam_does_not(activation, optimizer, low, high):
    assert low < measured(optimizers, activation=activation, optimizer=optimizer, factor=0.3)["accuracy"] <= high


def test_decay_does_not_save_what_another_start_saves():
    cured = measured(weight_decay, patient="cured", decay=0.0, rate=0.01)
    sick = measured(weight_decay, patient="exploding", decay=1e-2, rate=0.01)
    assert cured["accuracy"] > 0.7
    assert sick["accuracy"] < 0.5


def test_the_best_decay_is_compared_with_none():
    gains = {0.0: 0.2, 1e-3: 0.5, 1e-2: 0.1}
    arms = [{"patient": "vanishing", "decay": decay, "rate": rate} for decay in gains for rate in (0.01, 0.03)]
    rows = [
        Row(arm, seed, {"accuracy": gains[arm["decay"]] - arm["rate"] + 0.01 * seed}) for arm in arms for seed in (0, 1)
    ]
    assert weight_decay._gain(Table(rows), "vanishing") == pytest.approx([0.3, 0.3])


def test_behind_batch_normalization_a_layer_adds_what_yang_says():
    deep, shallow = (measured(batch_norm, look="start", net="normalized", size=depth)["decades"] for depth in (35, 10))
    assert (deep - shallow) / 25 == pytest.approx(math.log10(math.pi / (math.pi - 1)) / 2, rel=0.1)
    assert abs(measured(batch_norm, look="start", net="plain", size=20)["decades"]) < 0.5


def test_the_largest_rate_is_the_last_that_learns_and_there_need_be_none():
    learned = {0.03: (0.9, 0.1), 0.1: (0.95, 0.2), 0.3: (0.1, 0.1)}
    rows = [
        Row({"look": "training", "net": "plain", "size": rate}, seed, {"accuracy": accuracies[seed]})
        for rate, accuracies in learned.items()
        for seed in (0, 1)
    ]
    assert batch_norm._largest_rate(Table(rows), "plain") == pytest.approx([-1, math.log10(0.03)])


@pytest.mark.parametrize("weight_std", [0.8, 0.9])
def test_without_biases_the_depth_scale_of_order_is_known_in_closed_form(weight_std):
    shallow, deep = (measured(trainable_depth, weight_std=weight_std, times=times, rate=0.01) for times in (2, 14))
    for found in (shallow, deep):
        assert found["scale"] == pytest.approx(-1 / math.log(weight_std**2), rel=1e-3)
    assert (shallow["depth"], deep["depth"]) == (round(2 * shallow["scale"]), round(14 * deep["scale"]))
    assert shallow["accuracy"] > 0.8
    assert deep["accuracy"] < 0.4


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_the_depth_that_can_be_trained_is_read_off_with_its_exponent(exponent):
    scales = {0.8: 2.0, 0.9: 8.0}
    limits = {std: 12 * (scale / 2) ** exponent for std, scale in scales.items()}
    rows = [
        Row(
            {"weight_std": std, "times": times, "rate": 0.01},
            seed,
            {
                "scale": scale,
                "depth": times * scale,
                "accuracy": 0.5 - 0.1 * math.log2(times * scale / limits[std]),
            },
        )
        for std, scale in scales.items()
        for times in (1.5, 3, 6, 12)
        for seed in (0, 1)
    ]
    assert trainable_depth._exponent(Table(rows), trainable_depth.ORDERED) == pytest.approx([exponent] * 2)
    assert trainable_depth._off(Table(rows), trainable_depth.ORDERED) == pytest.approx([exponent - 1] * 2)


@pytest.mark.parametrize(
    ("activation", "start", "low", "high"),
    [
        ("linear", "orthogonal", 1, 1),
        ("linear", "Gaussian", 0, 0.1),
        ("ReLU", "orthogonal", 0, 0.1),
        ("tanh", "orthogonal", 0.8, 1),
    ],
)
def test_only_orthogonal_weights_and_a_nearly_linear_activation_keep_all_directions(activation, start, low, high):
    found = measured(isometry, look="jacobian", activation=activation, start=start, depth=50)
    assert low <= found["kept"] <= high


@pytest.mark.parametrize("precision", half_precision.PRECISIONS)
def test_float16_alone_loses_the_early_layers(precision):
    found = measured(half_precision, start="torch's start", precision=precision, terms=half_precision.SOME, rate=0.003)
    assert len(found["layers"]) == half_precision.DEPTH
    assert found["lost"] == pytest.approx(np.mean(found["layers"]))
    if precision == "float16":
        assert found["layers"][:4] == [1, 1, 1, 1]
        assert found["accuracy"] < 0.3
    else:
        assert found["lost"] < 0.01
        assert found["accuracy"] > 0.6


def test_a_scale_moves_the_underflow_by_as_much():
    scaled, plain = (
        measured(half_precision, start="Xavier's start", precision=precision, terms=terms, rate=0.003)
        for precision, terms in ((half_precision.SCALED, 2**16 * 2000), ("float16", 2000))
    )
    assert plain["lost"] > 0
    assert scaled["layers"] == plain["layers"]


def test_a_bfloat16_of_float16s_size_loses_nothing():
    smallest = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
    tiny = torch.tensor(smallest / 4)
    assert tiny.half() == 0
    assert tiny.bfloat16() != 0
    assert (tiny * half_precision.SCALE).half() / half_precision.SCALE == pytest.approx(float(tiny))
