"""Each rule on observations put together by hand: where it must suspect, what it names, and where it must be silent."""

import math
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import synthetic_observations as make
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.diagnose.conditions.dead_units import dead_units
from graddoctor.diagnose.conditions.degradation import degradation
from graddoctor.diagnose.conditions.disconnected import disconnected
from graddoctor.diagnose.conditions.exploding import exploding, signal_growth
from graddoctor.diagnose.conditions.plateau import oscillation, plateau
from graddoctor.diagnose.conditions.poor_initialization import poor_initialization
from graddoctor.diagnose.conditions.recurrent import cliffs, kept, recurrent_exploding, recurrent_vanishing
from graddoctor.diagnose.conditions.saturation import saturation
from graddoctor.diagnose.conditions.underflow import underflow
from graddoctor.diagnose.conditions.unscaled_input import oddity, unscaled_input
from graddoctor.diagnose.conditions.vanishing import hidden_rows, lost, vanishing
from graddoctor.diagnose.rules import RULES, suspect
from graddoctor.observe.alike import AlikeReading
from graddoctor.prove.yardstick import Yardstick
from graddoctor.terms import Cause, Condition

nan, inf = math.nan, math.inf


def one(found):
    (suspicion,) = found
    return suspicion


def test_a_sound_run_raises_no_suspicion():
    assert suspect(make.observation()) == ()


def test_rules_are_applied_in_order_and_a_user_can_add_to_them():
    seen = make.observation(make.look(activations=(make.activation("act1", dead=1.0),)), missing=("fc2.weight",))
    assert [s.condition for s in suspect(seen)] == [Condition.DISCONNECTED, Condition.DEAD_UNITS]
    assert [s.condition for s in suspect(seen, tuple(reversed(RULES)))] == [
        Condition.DEAD_UNITS,
        Condition.DISCONNECTED,
    ]


# --- VANISHING


def test_three_decades_lost_before_the_last_hidden_layer_are_suspected():
    rows = (make.row("fc1", -1.0, modules=("fc1", "act1")), make.row("fc2", -2.5), make.row("out", 5.0))
    suspicion = one(vanishing(make.observation(make.look(budget=make.budget(*rows, signal=-2.0)))))
    assert suspicion.condition is Condition.VANISHING
    assert suspicion.modules == ("fc2", "fc1", "act1")
    assert suspicion.at_start
    expected = {"decades_lost": 3.5, "decades_lost_per_layer": 1.75, "step": 0.0, "signal_decades": -2.0}
    assert dict(suspicion.numbers) == pytest.approx(expected)
    assert "3.5 decades" in suspicion.sentence


@pytest.mark.parametrize(
    "rows",
    [
        (make.row("fc1", -1.0), make.row("fc2", -1.9), make.row("out", 0.0)),
        (make.row("fc1", 0.0), make.row("fc2", 0.0), make.row("out", -9.0)),  # the output layer is no loss over depth
        (make.row("fc1", -2.0, 2.0), make.row("fc2", -2.0, 2.0), make.row("out")),  # only fewer elements
    ],
)
def test_less_is_not(rows):
    assert vanishing(make.observation(make.look(budget=make.budget(*rows)))) == ()


def test_the_start_is_told_before_a_later_and_larger_loss():
    early, late = (make.budget(make.row("fc1", -d), make.row("out")) for d in (3.5, 6.0))
    seen = make.observation(make.look(budget=early), make.look(make.STEPS, budget=late))
    assert one(vanishing(seen)).numbers["decades_lost"] == pytest.approx(3.5)
    later = one(vanishing(make.observation(make.look(), make.look(make.STEPS, budget=late))))
    assert (later.at_start, later.numbers["step"]) == (False, make.STEPS)


def test_what_is_lost_over_time_is_not_lost_over_depth():
    rows = (*(make.row(f"cell {k}", -1.0, modules=("cell",)) for k in range(8)), make.row("out"))
    over_time = make.look(budget=make.budget(*rows), temporal=(make.reading("cell", -0.5),))
    assert vanishing(make.observation(over_time)) == ()
    assert one(vanishing(make.observation(make.look(budget=make.budget(*rows))))).numbers["decades_lost"] == 8


def test_no_state_of_the_network_no_suspicion():
    gone = make.budget(make.row("fc1", -9.0), make.row("out"))
    between = make.observation(make.look(), make.look(5, budget=gone), make.look(make.STEPS))
    assert vanishing(between) == ()  # what shows only in between is gone by itself
    assert vanishing(make.observation(make.look(), make.look(make.STEPS, budget=gone, loss=nan))) == ()
    assert vanishing(make.observation(make.look(budget=None))) == ()
    assert lost(make.look(budget=replace(gone, cut="fc1"))) == 0
    assert hidden_rows(make.budget(make.row("only", -5.0)))[0].name == "only"


# --- EXPLODING, NON_FINITE


def test_three_decades_won_are_suspected():
    rows = (make.row("fc1", 1.0), make.row("fc2", 2.5), make.row("out"))
    suspicion = one(exploding(make.observation(make.look(budget=make.budget(*rows)))))
    assert suspicion.condition is Condition.EXPLODING
    assert suspicion.modules == ("fc2", "fc1")
    assert suspicion.numbers["decades_gained"] == pytest.approx(3.5)
    assert suspicion.at_start


def test_a_signal_that_grows_forward_is_suspected():
    acts = tuple(make.activation(f"act{k}", input_rms=10.0**k) for k in range(5))
    suspicion = one(exploding(make.observation(make.look(activations=acts))))
    assert suspicion.numbers["decades_gained"] == pytest.approx(4.0)
    assert exploding(make.observation(make.look(activations=acts[:3]))) == ()
    assert signal_growth(make.look(activations=(acts[0], make.activation("a", input_rms=inf)))) == inf
    assert signal_growth(make.look(activations=())) == 0
    assert signal_growth(make.look(activations=(make.activation("a", input_rms=0.0),))) == 0


def test_a_norm_that_jumps_counts_only_where_the_loss_jumps_too():
    norms = np.ones(make.STEPS)
    norms[40] = 5e3
    jumping = make.curve()
    jumping[40] = 3.0
    suspicion = one(exploding(make.observation(raw_norms=norms, outcome=make.outcome(jumping))))
    assert suspicion.numbers["gradient_norm_jump_decades"] == pytest.approx(math.log10(5e3))
    assert not suspicion.at_start
    assert "5000 times" in suspicion.sentence
    assert exploding(make.observation(raw_norms=norms)) == ()  # the gradient wakes up late: learning begins
    assert exploding(make.observation(raw_norms=norms[30:42], outcome=make.outcome(jumping))) == ()  # too few


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_loss_that_is_no_number_is_non_finite_and_exploding(bad):
    losses = make.curve()
    losses[7:] = bad
    found = exploding(make.observation(outcome=make.outcome(losses, ended="non-finite")))
    assert [s.condition for s in found] == [Condition.NON_FINITE, Condition.EXPLODING]
    assert (found[0].numbers["first_nonfinite_step"], found[0].at_start, found[0].causes) == (7, False, ())


def test_non_finite_from_the_first_step_names_where_and_why():
    start = make.look(
        loss=nan,
        inputs=(make.tensor(nonfinite=3),),
        parameters=(make.parameter("fc2.weight", gradient_nonfinite=4), make.parameter("out.weight")),
        activations=(make.activation("act2", nonfinite=1), make.activation("act1")),
    )
    found = exploding(make.observation(start, outcome=make.outcome([nan] * 24)))
    assert found[0].condition is Condition.NON_FINITE
    assert found[0].at_start
    assert found[0].modules == ("fc2", "act2")
    assert found[0].causes == (Cause.INPUT_SCALE,)


# --- DEAD_UNITS, SATURATION


def test_half_of_the_units_dead_are_suspected_with_the_layer_that_feeds_them():
    rows = make.budget(make.row("fc1", modules=("fc1", "act1")), make.row("fc2", modules=("fc2", "act2")))
    acts = (make.activation("act1", dead=0.2), make.activation("act2", dead=0.75))
    suspicion = one(dead_units(make.observation(make.look(budget=rows, activations=acts))))
    assert suspicion.condition is Condition.DEAD_UNITS
    assert suspicion.modules == ("act2", "fc2")
    assert dict(suspicion.numbers) == {"dead_share": 0.75, "layers": 1.0, "step": 0.0}
    assert suspicion.at_start


def test_dead_units_that_come_later_are_not_there_at_the_start():
    late = make.look(make.STEPS, activations=(make.activation("act1"), make.activation("act2", dead=1.0)))
    suspicion = one(dead_units(make.observation(make.look(), late)))
    assert (suspicion.at_start, suspicion.numbers["step"]) == (False, make.STEPS)
    between = make.observation(make.look(), replace(late, step=3), make.look(make.STEPS))
    assert dead_units(between) == ()


@pytest.mark.parametrize("dead", [0.0, 0.3, 0.49])
def test_sparse_is_not_dead(dead):
    acts = (make.activation("act1", dead=dead, zeros=0.95),)
    assert dead_units(make.observation(make.look(activations=acts))) == ()


def test_half_of_the_values_on_flat_parts_are_suspected():
    acts = tuple(make.activation(f"act{k}", kind="tanh", saturated=s) for k, s in ((1, 0.6), (2, 0.9), (3, 0.4)))
    suspicion = one(saturation(make.observation(make.look(activations=acts))))
    assert suspicion.condition is Condition.SATURATION
    assert suspicion.modules == ("act2", "act1")
    assert dict(suspicion.numbers) == {"saturated_share": 0.9, "layers": 2.0, "step": 0.0}


def test_a_confident_output_is_no_saturation():
    acts = (make.activation("act1"), make.activation("out", kind="softmax", saturated=1.0))
    start = make.look(activations=acts, output=replace(make.look().output, kind="softmax"))
    assert saturation(make.observation(start)) == ()
    inside = replace(start, output=replace(make.look().output, kind="linear"))
    assert one(saturation(make.observation(inside))).modules == ("out",)


# --- POOR_INITIALIZATION


@pytest.mark.parametrize(
    ("changes", "number", "value"),
    [
        ({"parameters": (make.parameter("fc1.weight", identical=1.0),)}, "identical_layers", 1.0),
        ({"low_precision_zeros": 0.4}, "zero_gradient_share", 0.4),
        ({"budget": make.budget(make.row("fc1"), signal=-3.5)}, "signal_change_decades", 3.5),
        ({"loss": 11.0}, "loss_over_constant", 11.0),
        ({"loss": inf}, "loss_over_constant", inf),
    ],
)
def test_a_start_that_is_the_fault_itself(changes, number, value):
    seen = make.observation(make.look(**changes), deviations={"fc2": 1.5, "out": 0.1})
    suspicion = one(poor_initialization(seen))
    assert suspicion.condition is Condition.POOR_INITIALIZATION
    assert suspicion.at_start
    assert suspicion.numbers[number] == pytest.approx(value)
    assert suspicion.modules[-2:] == ("fc2", "out")


def test_an_ordinary_start_is_none():
    frozen = make.parameter("fc1.weight", identical=1.0, trainable=False)
    start = make.look(loss=9.0, low_precision_zeros=0.2, parameters=(frozen, make.parameter("fc2.weight")))
    assert poor_initialization(make.observation(start)) == ()


# --- PLATEAU, OSCILLATION


def test_a_loss_that_stands_still_is_suspected():
    suspicion = one(plateau(make.observation(outcome=make.outcome(make.curve(2.0, 1.95)))))
    assert suspicion.condition is Condition.PLATEAU
    assert suspicion.numbers["fall_share"] == pytest.approx(0.0219, abs=1e-3)
    assert one(plateau(make.observation(outcome=make.outcome(make.curve(1.0, 2.0))))).numbers["fall_share"] < 0
    assert plateau(make.observation(outcome=make.outcome(make.curve(1.0, 0.9)))) == ()


@pytest.mark.parametrize("losses", [[1.0], [1.0, nan, 1.0, 1.0], []])
def test_no_curve_no_plateau(losses):
    assert plateau(make.observation(outcome=make.outcome(losses, per_epoch=1))) == ()


def test_a_loss_that_swings_is_suspected():
    swinging = make.curve() + np.where(np.arange(make.STEPS) % 2, 0.5, 0.0)
    suspicion = one(oscillation(make.observation(outcome=make.outcome(swinging))))
    assert suspicion.condition is Condition.OSCILLATION
    assert suspicion.numbers["late_spread"] > 0.3


def test_epochs_that_rise_again_and_again_are_suspected():
    epochs = np.repeat([1.0, 0.9, 1.0, 0.9, 1.0, 0.9, 1.0, 0.9], 8)
    suspicion = one(oscillation(make.observation(outcome=make.outcome(epochs))))
    assert suspicion.numbers["rising_epochs_share"] == pytest.approx(1 / 3)
    assert "33% of the epochs" in suspicion.sentence


def test_a_loss_that_is_lost_has_swung_until_then():
    wider = 1.0 + 0.5 * (-1.5) ** np.arange(make.STEPS // 2)
    lost = np.concatenate([wider, np.full(make.STEPS // 2, nan)])
    assert one(oscillation(make.observation(outcome=make.outcome(lost)))).numbers["late_spread"] > 0.3


def test_a_steep_and_steady_fall_is_no_swing():
    for falling in (make.curve(1.0, 0.01), np.geomspace(1.0, 0.01, make.STEPS)):
        assert oscillation(make.observation(outcome=make.outcome(falling))) == ()


def test_noise_and_short_runs_do_not_oscillate():
    noisy = make.curve(1.0, 0.5) + 0.05 * np.random.default_rng(0).standard_normal(make.STEPS)
    assert oscillation(make.observation(outcome=make.outcome(noisy))) == ()
    assert oscillation(make.observation(outcome=make.outcome([1.0, 0.1] * 5))) == ()
    assert oscillation(make.observation(outcome=make.outcome([1.0] * 63 + [nan]))) == ()


# --- UNDERFLOW


def test_zeros_in_few_bits_are_suspected_and_in_float32_are_not():
    empty = (make.parameter("fc1.weight", gradient_zeros=0.9), make.parameter("out.weight"))
    start = make.look(low_precision_zeros=0.5, parameters=empty)
    suspicion = one(underflow(make.observation(start, low_precision=True)))
    assert suspicion.condition is Condition.UNDERFLOW
    assert suspicion.modules == ("fc1",)
    assert suspicion.numbers["zero_gradient_share"] == 0.5
    assert underflow(make.observation(start)) == ()
    assert underflow(make.observation(low_precision=True)) == ()


def test_updates_that_change_nothing_are_suspected():
    stuck = (make.parameter("fc1.weight"), make.parameter("fc2.weight", unchanged=0.8))
    later = make.look(8, parameters=stuck)
    suspicion = one(underflow(make.observation(make.look(), later, low_precision=True)))
    assert suspicion.modules == ("fc2",)
    assert suspicion.numbers["unchanged_share"] == 0.8
    assert "too small to change" in suspicion.sentence


# --- UNSCALED_INPUT


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        (make.tensor(absmax=255.0, std=70.0), "reaches 255"),
        (make.tensor(absmax=0.01, std=0.004), "stays within 0.01 of zero"),
        (make.tensor(mean=12.0, std=0.5, absmax=14.0), "lies 24 standard deviations from zero"),
        (make.tensor("target", std=400.0, absmax=900.0), "spreads by 400"),
        (make.tensor("target", mean=300.0, std=1.0, absmax=304.0), "lies 300 standard deviations from zero"),
    ],
)
def test_what_is_out_of_scale_is_suspected_at_the_first_layer(reading, why):
    assert why in oddity(reading)
    suspicion = one(unscaled_input(make.observation(make.look(inputs=(make.tensor(), reading)))))
    assert suspicion.condition is Condition.UNSCALED_INPUT
    assert suspicion.modules == ("fc1",)
    assert suspicion.numbers["absmax"] == reading.absmax
    assert reading.role in suspicion.sentence


@pytest.mark.parametrize(
    "reading",
    [
        make.tensor(),
        make.tensor(mean=0.5, std=0.3, absmax=1.0),
        make.tensor(dtype="int64", absmax=5000.0, std=900.0),  # tokens
        make.tensor("target", absmax=0.001, std=0.0005),
        make.tensor("target", absmax=25.0, std=5.0),
        make.tensor(std=0.0, absmax=1.0, mean=1.0),  # constant
    ],
)
def test_ordinary_tensors_are_not(reading):
    assert oddity(reading) == ""


# --- DISCONNECTED


def test_parameters_that_never_get_a_gradient_are_suspected():
    cut = (
        make.parameter("fc1.weight", gradient=None),
        make.parameter("fc1.bias", gradient=None),
        make.parameter("o.w"),
    )
    suspicion = one(disconnected(make.observation(make.look(parameters=cut), make.look(8, parameters=cut))))
    assert suspicion.condition is Condition.DISCONNECTED
    assert suspicion.modules == ("fc1",)
    assert suspicion.causes == (Cause.GRAPH,)
    assert suspicion.numbers["without_gradient"] == 2
    assert suspicion.sentence == "2 trainable parameters never get a gradient."


def test_a_parameter_reached_at_some_probe_is_connected():
    cut = (make.parameter("fc1.weight", gradient=None), make.parameter("out.weight"))
    assert disconnected(make.observation(make.look(parameters=cut), make.look(8))) == ()
    frozen = (make.parameter("fc1.weight", gradient=None, trainable=False), make.parameter("out.weight"))
    assert disconnected(make.observation(make.look(parameters=frozen))) == ()


def test_parameters_that_the_optimizer_lacks_are_suspected():
    suspicion = one(disconnected(make.observation(missing=("fc1.weight", "fc1.bias", "head.weight"))))
    assert suspicion.modules == ("fc1", "head")
    assert suspicion.numbers["not_in_optimizer"] == 3
    assert suspicion.sentence.startswith("The optimizer was not given 3")


# --- What must not matter


def scaled(thing, by):
    """The same observation of a loss that was multiplied: what is measured in units of the loss grows with it."""
    names = {"loss", "gradient", "start_norm", "end_norm", "baseline", "raw_norms", "clipped_norms", "losses"}
    if isinstance(thing, tuple):
        return tuple(scaled(part, by) for part in thing)
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    changes = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if field.name in names and value is not None and not isinstance(value, tuple):
            changes[field.name] = value * by
        elif field.name in {"probes", "outcome", "yardstick", "budget", "rows", "activations", "parameters"}:
            changes[field.name] = scaled(value, by)
    return replace(thing, **changes)


def sick_in_every_way():
    rows = make.budget(make.row("fc1", -4.0), make.row("fc2", 0.5), make.row("out"), signal=-3.2)
    acts = (make.activation("act1", dead=0.9), make.activation("act2", kind="tanh", saturated=0.8, input_rms=2e3))
    start = make.look(budget=rows, activations=acts, loss=12.0, low_precision_zeros=0.4)
    losses = 1 + 0.5 * np.sin(np.arange(make.STEPS) * 2.0)
    losses[50] = 3.0
    norms = np.ones(make.STEPS)
    norms[50] = 2e3
    late = make.look(make.STEPS, inputs=(make.tensor(absmax=90.0),))
    parts = {"outcome": make.outcome(losses), "raw_norms": norms, "low_precision": True, "missing": ("fc2.weight",)}
    return make.observation(start, late, **parts)


@given(st.floats(-6, 6).map(lambda decades: 10**decades))
def test_a_loss_times_a_constant_changes_no_suspicion(by):
    for seen in (make.observation(), sick_in_every_way()):
        plain, multiplied = suspect(seen), suspect(scaled(seen, by))
        assert [(s.condition, s.modules, s.at_start) for s in plain] == [
            (s.condition, s.modules, s.at_start) for s in multiplied
        ]
        for one_plain, one_multiplied in zip(plain, multiplied, strict=True):
            ratios = {k: v for k, v in one_plain.numbers.items() if k != "last_loss"}
            assert {k: one_multiplied.numbers[k] for k in ratios} == pytest.approx(ratios, rel=1e-6, abs=1e-9)


def test_the_observation_that_is_sick_in_every_way_is_suspected_of_most():
    found = {s.condition for s in suspect(sick_in_every_way())}
    missed = {c.value for c in set(Condition) - found}
    assert missed == {
        "degradation", "recurrent_vanishing", "recurrent_exploding", "non_finite", "unscaled_input",
        "learning_rate_too_high", "learning_rate_too_low", "plateau",
    }  # fmt: skip


@given(st.floats(0.0, 8.0), st.floats(0.0, 8.0))
def test_the_deeper_the_loss_the_surer_the_suspicion(one_loss, other):
    """What is suspected at a loss of gradient is suspected at every larger one, and the number is the loss itself."""

    def found(decades):
        rows = make.budget(make.row("fc1", -decades / 2), make.row("fc2", -decades / 2), make.row("out"))
        return vanishing(make.observation(make.look(budget=rows)))

    low, high = sorted((one_loss, other))
    assert bool(found(low)) <= bool(found(high))
    assert all(s.numbers["decades_lost"] == pytest.approx(high) for s in found(high))


@given(st.lists(st.one_of(st.floats(), st.integers(-5, 5).map(float)), max_size=40), st.integers(1, 9))
def test_no_curve_of_losses_breaks_a_rule(losses, per_epoch):
    norms = np.abs(np.asarray(losses, dtype=np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        seen = make.observation(outcome=make.outcome(losses, per_epoch=per_epoch), raw_norms=norms)
        assert all(s.sentence for s in suspect(seen))


def test_moments_are_the_start_an_eighth_and_the_end():
    looks = [make.look(step) for step in (0, 1, 2, 4, 8, 16, 32, make.STEPS)]
    assert [look.step for look in make.observation(*looks).moments] == [0, 8, make.STEPS]
    broken = [replace(look, loss=nan) for look in looks]
    assert [look.step for look in make.observation(*broken).moments] == [0]


@pytest.mark.parametrize(("per_epoch", "parts"), [(8, 8), (64, 4), (1000, 4), (60, 4)])
def test_epoch_losses_are_means_over_whole_epochs(per_epoch, parts):
    seen = make.observation(outcome=make.outcome(per_epoch=per_epoch))
    assert len(seen.epoch_losses) == parts
    assert seen.epoch_losses[0] == pytest.approx(make.curve()[: make.STEPS // parts].mean())
    assert len(make.observation(outcome=make.outcome([1.0, 2.0])).epoch_losses) == 2
    assert Yardstick(2.0, computed=True).progress(0.5) == 0.75


# --- RECURRENT_VANISHING, RECURRENT_EXPLODING


def timed(*readings, **changes):
    return make.observation(make.look(temporal=tuple(readings)), make.look(make.STEPS), **changes)


def test_three_decades_lost_over_time_are_suspected_and_the_fastest_is_told():
    slow, fast = make.reading("slow", -4.0, 80), make.reading("fast", -3.5, 30, horizon_3=27)
    suspicion = one(recurrent_vanishing(timed(slow, fast)))
    assert suspicion.condition is Condition.RECURRENT_VANISHING
    assert suspicion.modules == ("fast", "slow")
    assert suspicion.at_start
    assert suspicion.numbers["decades_over_time"] == pytest.approx(-3.5)
    assert suspicion.numbers["decades_per_time_step"] == pytest.approx(-3.5 / 29)
    assert suspicion.numbers["horizon_3_decades_steps"] == 27
    assert suspicion.sentence == "Over 30 time steps fast loses 3.5 decades of gradient: a thousandth is left after 27."
    assert recurrent_exploding(timed(slow, fast)) == ()


def test_less_lost_over_time_is_not():
    assert recurrent_vanishing(timed(make.reading(decades=-2.9))) == ()
    light = make.reading(decades=-9.0, kind="attention", source="input")
    assert recurrent_vanishing(timed(light)) == ()


def test_what_the_memory_of_an_lstm_keeps_is_not_lost():
    lost_state = make.reading(decades=-5.0, kind="lstm", cell_lag_gradient=tuple(np.geomspace(0.5, 0.1, 30)))
    assert kept(lost_state) == pytest.approx(math.log10(0.2))
    assert recurrent_vanishing(timed(lost_state)) == ()


def test_a_zero_on_the_way_is_all_that_can_be_lost():
    detached = make.reading(decades=0.0, lag_gradient=(1.0, *[0.0] * 29), cut=1)
    assert kept(detached) == -45
    assert one(recurrent_vanishing(timed(detached))).condition is Condition.RECURRENT_VANISHING


GROWING = {
    "grows": make.reading(decades=4.0, lag_gradient=tuple(np.geomspace(1, 1e4, 30))),
    "infinite": make.reading(lag_gradient=(1.0, *[inf] * 29), cut=1),
    "beyond all floats": replace(make.reading(lag_gradient=(1.0, *[1e300] * 28, inf)), decades=363.0),
}


@pytest.mark.parametrize("reading", GROWING.values(), ids=GROWING)
def test_growth_over_time_is_suspected_and_blames_the_start_where_it_was_there(reading):
    suspicion = one(recurrent_exploding(timed(reading)))
    assert suspicion.condition is Condition.RECURRENT_EXPLODING
    assert suspicion.causes == (Cause.INITIALIZATION,)
    late = make.observation(make.look(), make.look(make.STEPS, temporal=(reading,)))
    assert one(recurrent_exploding(late)).causes == ()
    assert not one(recurrent_exploding(late)).at_start


def test_losses_are_told_beyond_what_a_float_holds():
    lost = replace(make.reading(lag_gradient=(1.0, *[1e-300] * 28, 0.0)), decades=-432.0)
    assert kept(lost) == -432
    long = replace(lost, cell_lag_gradient=(1.0, 1e-70, 0.0))
    assert kept(long) == pytest.approx(-70)
    assert "70.0 decades of gradient." in one(recurrent_vanishing(timed(long))).sentence


def test_a_run_that_converges_has_no_cliffs():
    assert cliffs(timed(make.reading(), raw_norms=np.geomspace(1, 1e-5, 200))) < 2


def test_cliffs_are_suspected_only_of_what_carries_a_state():
    norms = np.ones(make.STEPS)
    norms[40:42] = 500.0
    suspicion = one(recurrent_exploding(timed(make.reading(), raw_norms=norms)))
    assert not suspicion.at_start
    assert "500 times" in suspicion.sentence
    assert recurrent_exploding(timed(raw_norms=norms)) == ()
    assert recurrent_exploding(timed(make.reading())) == ()
    assert math.isnan(cliffs(timed(raw_norms=norms[:8])))


@given(st.floats(-40, 40), st.integers(2, 200))
def test_what_is_kept_is_what_was_lost_whatever_the_scale(decades, steps):
    seen = make.reading(decades=decades, steps=steps)
    scaled = replace(seen, lag_gradient=tuple(3.0 * norm for norm in seen.lag_gradient))
    assert kept(seen) == pytest.approx(decades, abs=1e-9)
    assert kept(scaled) == pytest.approx(decades, abs=1e-9)


# --- DEGRADATION


def test_many_equal_blocks_are_suspected_where_much_is_left_to_gain():
    names = tuple(f"layer{k}" for k in range(30))
    signs = (AlikeReading("layer0", 0.2, 20.0, 0.1), AlikeReading("layer29", 0.99, 2.0, 0.9))
    suspicion = one(degradation(make.observation(deep_blocks=names, alike=signs, progress=0.3)))
    assert suspicion.condition is Condition.DEGRADATION
    assert suspicion.modules == names
    expected = {"first_similarity": 0.2, "last_similarity": 0.99, "shared_gradient": 0.1}
    assert dict(suspicion.numbers) == {"equal_blocks": 30.0, "progress": 0.3, **expected}
    assert "0.20 at the first and 0.99 at the last" in suspicion.sentence
    assert suspicion.sentence.endswith("share 10% of their gradient at the first.")
    assert set(one(degradation(make.observation(deep_blocks=names, progress=0.3))).numbers) == {
        "equal_blocks",
        "progress",
    }
    assert degradation(make.observation(deep_blocks=names, progress=0.95)) == ()
    assert degradation(make.observation(progress=0.3)) == ()
