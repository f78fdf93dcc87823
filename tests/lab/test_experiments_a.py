"""Saturation, early layers, plateau, starts, rectifiers: what they measure, against theory where there is one."""

import math

import numpy as np
import pytest

from graddoctor.lab.experiments import early_layers, he, plateau, relu_family, saturation, xavier
from graddoctor.lab.table import Row, Table
from graddoctor.randomness import seeded

pytest.importorskip("sklearn")


def measured(experiment, seed=0, **arm):
    with seeded(seed):
        return experiment.EXPERIMENT.measure(seed=seed, **arm)


def rows(experiment, *arms, seeds=(0,)):
    return Table([Row(arm, seed, measured(experiment, seed, **arm)) for seed in seeds for arm in arms])


def asked(experiment, start):
    """The effect of the question that begins so."""
    (found,) = [one for one in experiment.EXPERIMENT.questions if one.says.startswith(start)]
    return found


@pytest.mark.parametrize("experiment", [saturation, early_layers, plateau, xavier, he, relu_family])
def test_quick_arms_are_arms_that_measure_takes_and_pictures_find_them(experiment):
    one = experiment.EXPERIMENT
    assert one.arms
    assert {frozenset(arm) for arm in one.quick} <= {frozenset(arm) for arm in one.arms}
    for picture in one.pictures:
        for arms in (one.arms, one.quick):
            drawn = [arm for arm in arms if all(arm.get(part) == setting for part, setting in picture.where.items())]
            assert drawn, picture.value
            places = [tuple(arm.get(part) for part in (picture.x, picture.by, picture.panel)) for arm in drawn]
            assert len(set(places)) == len(places), f"{picture.value} would mix arms"


@pytest.mark.parametrize(
    ("activation", "start", "layer"),
    [("sigmoid", "torch", -0.849), ("tanh", "torch", -0.239), ("sigmoid", "Xavier", -0.627)],
)
def test_a_layer_costs_what_the_tables_of_theory_say(activation, start, layer):
    shallow, deep = (
        measured(saturation, look="start", activation=activation, start=start, depth=depth) for depth in (6, 14)
    )
    assert (deep["decades"] - shallow["decades"]) / 8 == pytest.approx(layer, rel=0.06)
    assert deep["theory"] == pytest.approx(deep["decades"], rel=0.05)
    assert deep["saturated"] < 0.01
    assert 0 < deep["bent"] < 0.15


def test_unevenness_tells_a_power_law_from_an_exponential():
    arms = [
        {"look": "start", "start": "torch", "activation": name, "depth": d}
        for name in saturation.ACTIVATIONS
        for d in (5, 10, 20)
    ]
    effect = asked(saturation, "A layer costs as much").effect
    straight = Table([Row(arm, seed, {"decades": -0.3 * arm["depth"]}) for seed in (0, 1) for arm in arms])
    power = Table([Row(arm, seed, {"decades": -0.5 * math.log10(arm["depth"])}) for seed in (0, 1) for arm in arms])
    assert effect(straight) == pytest.approx(0, abs=1e-9)
    assert (effect(power) > 0.2).all()


def test_the_last_hidden_sigmoid_layer_goes_towards_0():
    training = measured(saturation, look="training", activation="sigmoid", start="torch", depth=5)
    assert training["top"][0] == pytest.approx(0.5, abs=0.03)
    assert training["end"] < 0.2


def test_biases_decide_whether_early_layers_move_less():
    arms = [{"depth": early_layers.STUCK, "biases": biases} for biases in (True, False)]
    table = rows(early_layers, *arms)
    for value in ("moved", "half"):
        assert table.of(value, biases=True).shape == (1, early_layers.STUCK)
    with_biases, without = (one for one in early_layers.EXPERIMENT.questions[2:4])
    assert with_biases.effect(table) < -1.5
    assert abs(without.effect(table)) < 0.9
    assert (table.of("decades", biases=False) < -3).all()


def test_a_plateau_is_at_the_loss_of_guessing():
    sick, cured = (
        measured(plateau, activation="tanh", start=start, depth=20, rate=0.01, epochs=6) for start in plateau.STARTS
    )
    assert sick["left"] == 0
    assert sick["loss"] == pytest.approx([math.log(10)] * 6, abs=0.02)
    assert sick["steps"] == pytest.approx(math.log10(66))
    assert cured["left"] > 0.7
    assert cured["loss"][-1] < 0.8


def test_xaviers_start_keeps_the_gradient_of_tanh_and_not_of_sigmoid():
    arms = [
        {"activation": name, "start": start, "depth": 20, "rate": 0.03, "epochs": 1}
        for name in ("tanh", "sigmoid")
        for start in xavier.STARTS
    ]
    table = rows(xavier, *arms)
    assert table.of("decades", activation="tanh", start="old") < -4
    assert table.of("decades", activation="tanh", start="Xavier") > -1.2
    assert table.of("decades", activation="sigmoid", start="Xavier") < -10
    courses = table.of("course", activation="tanh", start="old"), table.of("theory", activation="tanh", start="old")
    assert np.abs(courses[0] - courses[1]).max() < 0.4
    assert courses[0].shape == (1, 21)


def test_the_old_start_has_a_third_of_the_variance():
    weights = xavier.old(xavier.Tensor(400, 300))
    assert float(weights.std()) == pytest.approx((3 * 300) ** -0.5, rel=0.02)
    assert float(weights.abs().max()) <= 300**-0.5


def test_relu_loses_half_its_square_a_layer_from_xaviers_start_and_nothing_from_hes():
    lost, kept = (measured(he, start=start, depth=12, rate=0.003, epochs=4) for start in he.STARTS)
    assert lost["decades"] == pytest.approx(-0.1505 * 11, abs=0.35)
    assert lost["theory"] == pytest.approx(-0.1505 * 11, abs=0.25)
    assert abs(kept["decades"]) < 0.4
    assert kept["learnt"] > 0.3 > lost["learnt"]


@pytest.mark.parametrize("activation", relu_family.FAMILY)
def test_the_start_and_not_the_rectifier_keeps_the_gradient(activation):
    torchs, hes = (measured(relu_family, activation=activation, start=s, rate=0.005, epochs=1) for s in ("torch", "He"))
    assert torchs["decades"] < -6.5
    assert abs(hes["decades"]) < 1
    assert torchs["theory"][0] == pytest.approx(torchs["decades"], abs=0.8)
