"""The order in which causes are tried, and what experiments make of them: scripted arms on the real bench."""

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic_observations as make
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graddoctor.diagnose import decide as deciding
from graddoctor.diagnose.decide import decide, nothing_to_gain, trial_of
from graddoctor.diagnose.plan import plan, sick_start
from graddoctor.diagnose.rules import suspect
from graddoctor.observe.ledger import Signal
from graddoctor.prove.experiment import Arm, Bench, Plain
from graddoctor.prove.yardstick import Yardstick
from graddoctor.remedies.survey import Survey
from graddoctor.terms import Cause

LONG = 1000


class Scripted(Bench):
    """Gives each change the gain that a test says, by its name (and, where it matters, by the share that it runs)."""

    def __init__(
        self, gains, *, progress=0.0, metric=0.5, steps=10 * LONG, metrics=None, leads=None, deadline=math.inf
    ):
        plain = Plain(make.outcome([1.0] * LONG, evaluation=metric), Yardstick(1.0, computed=True), progress)
        super().__init__(make.recipe(), plain, steps=steps, deadline=deadline)
        self.gains, self.metrics, self.leads, self.ran = gains, metrics or {}, leads or {}, []

    def _run(self, remedy, share, *, whole):
        self.ran.append((remedy.name, share))
        self.steps_left -= int(share * LONG)
        gain = self.gains.get((remedy.name, share), self.gains.get(remedy.name, 0.0))
        if isinstance(gain, str):
            return Arm(remedy, self.recipe, None, 0.0, -self.plain.progress, share, failed=gain)
        progress = self.plain.progress + gain
        metric = self.metrics.get(remedy.name, 0.0)
        lead = self.leads.get(remedy.name, 0.0)
        evaluation = self.plain.outcome.evaluation + metric if remedy.name in self.metrics else None
        outcome = make.outcome(evaluation=evaluation)
        return Arm(remedy, self.recipe, outcome, progress, gain, share, metric, lead)

    @property
    def names(self):
        return [name for name, _ in self.ran]


@pytest.fixture
def swept(monkeypatch):
    """What sweeps find: the best factor of the rate by the name of the treatment, ``""`` for none."""
    best = {}

    def sweep(recipe, *_, around=None, deadline=math.inf):
        treated = getattr(recipe, "name", "")
        assert around is None or around is nullcontext or callable(around)
        factor = best.get(treated)
        return SimpleNamespace(losses=np.zeros(176), best=None if factor is None else 10 * factor)

    monkeypatch.setattr(deciding, "sweep", sweep)
    return best


def tried(seen, gains, **options):
    bench = Scripted(gains, **options)
    return decide(seen, suspect(seen), bench), bench


def steps(seen):
    return ["rate" if step is None else step.remedy.name for step in plan(seen, suspect(seen))]


def surveyed(*kinds, output=None, hooks=0):
    return Survey({}, kinds, output, 0, 0, hooks)


def sick(seen):
    """The same with a start that is sick: units that are all alike."""
    alike = (make.parameter("fc1.weight", identical=1.0), make.parameter("out.weight"))
    return replace(seen, probes=(replace(seen.start, parameters=alike), *seen.probes[1:]))


# --- the plan


def test_without_a_fact_only_rate_and_structure_are_suspected():
    assert steps(make.observation()) == ["rate", "re-initialised"]


def test_structure_goes_first_where_the_start_is_sick():
    assert steps(sick(make.observation())) == ["re-initialised", "rate"]


def test_everything_odd_is_tried_in_the_order_of_the_design():
    start = make.look(
        parameters=(
            make.parameter("fc1.weight", gradient=None),
            make.parameter("fc2.weight", trainable=False),
            make.parameter("out.weight"),
        ),
        inputs=(make.tensor(absmax=255.0), make.tensor("target", std=99.0, absmax=300.0)),
    )
    seen = make.observation(
        start,
        make.look(make.STEPS),
        recipe=make.recipe(clip=lambda _: None, scheduler=lambda optimizer: optimizer),
        clipped_norms=np.full(make.STEPS, 0.1),
        rates=np.geomspace(0.1, 1e-9, make.STEPS),
        groups=(make.group(momentum=0.995, eps=1.0, weight_decay=1.0),),
        yardstick=Yardstick(1.0, computed=True, floor=0.9, bare_floor=0.0, penalised=True),
        survey=surveyed("relu", hooks=1),
        missing=("fc1.weight",),
        low_precision=True,
        ordered=True,
    )
    assert steps(seen) == [
        "float32 throughout",
        "nothing detached",
        "every trainable parameter in the optimizer",
        "clipping lifted",
        "constant learning rate",
        "weight decay lifted",
        "no penalty on the weights in the loss",
        "gradient hooks taken off",
        "epsilon 1e-8",
        "inputs standardised",
        "targets standardised",
        "no activation on the output",
        "sigmoid on the output",
        "momentum 0.9",
        "batches shuffled",
        "rate",
        "re-initialised",
        "nothing frozen",
    ]


def test_a_harsh_activation_of_ordinary_weights_goes_before_the_weights():
    seen = make.observation(survey=surveyed("sigmoid", "sigmoid"), deviations={"fc1": 0.2})
    swap = "leaky ReLU in place of sigmoid"
    assert steps(seen) == ["rate", swap, f"{swap}, re-initialised", "re-initialised"]
    off = replace(seen, deviations={"fc1": 2.0})
    assert steps(off) == ["rate", "re-initialised", swap, f"{swap}, re-initialised"]


def test_rectifiers_are_exchanged_only_in_trouble():
    seen = make.observation(survey=surveyed("relu"))
    assert steps(seen) == ["rate", "re-initialised"]
    standing = replace(seen, outcome=make.outcome(make.curve(1.0, 1.0)))
    assert steps(standing)[:3] == ["rate", "re-initialised", "leaky ReLU in place of relu"]


def test_depth_goes_first_where_the_start_is_in_order_and_after_the_start_where_it_is_not():
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(8)]
    deep = make.recipe(model=lambda: nn.Sequential(*blocks), batches=[torch.ones(2, 4)])
    seen = make.observation(recipe=deep, deep_blocks=("0", "1"))
    left_out = ["4 of 8 equal blocks left out", "6 of 8 equal blocks left out"]
    assert steps(seen) == ["rate", *left_out, "re-initialised"]
    assert steps(sick(seen)) == ["re-initialised", *left_out, "rate"]


@pytest.mark.parametrize(
    ("changes", "is_sick"),
    [
        ({}, False),
        ({"loss": 24.0}, False),
        ({"loss": 26.0}, True),
        ({"loss": math.nan}, True),
        ({"budget": make.budget(make.row("fc1", -3.1), make.row("out"))}, True),
        ({"budget": make.budget(make.row("fc1", 3.1), make.row("out"))}, True),
        ({"budget": make.budget(make.row("fc1", -2.9), make.row("out"))}, False),
        ({"budget": make.budget(make.row("fc1"), cut="fc1")}, True),
        ({"budget": make.budget(make.row("fc1"), signal=-3.2)}, True),
        ({"budget": replace(make.budget(make.row("fc1")), signal=Signal(relative=(0.0, -6.5)))}, True),
        ({"activations": (make.activation("act1", dead=0.96),)}, True),
        ({"activations": (make.activation("act1", dead=0.9),)}, False),
        ({"activations": (make.activation("act1", kind="tanh", saturated=0.95),)}, True),
        ({"activations": (make.activation("a", input_rms=1.0), make.activation("b", input_rms=2e3))}, True),
        ({"budget": None}, False),
    ],
)
def test_a_sick_start(changes, is_sick):
    assert sick_start(make.observation(make.look(**changes))) is is_sick


def test_specific_steps_undo_what_was_added():
    specific = {
        step.cause: step.specific
        for step in plan(make.observation(low_precision=True, ordered=True, missing=("w",)), ())
        if step
    }
    assert specific == {
        Cause.PRECISION: True,
        Cause.GRAPH: True,
        Cause.BATCHING: True,
        Cause.INITIALIZATION: False,
    }


# --- decisions


@pytest.mark.usefixtures("swept")
def test_the_first_change_that_gives_back_half_ends_the_search():
    verdict, bench = tried(make.observation(low_precision=True), {"float32 throughout": 0.6, "re-initialised": 0.9})
    assert verdict.arm.cause is Cause.PRECISION
    assert bench.names == ["float32 throughout"]
    assert not verdict.aborted


@pytest.mark.usefixtures("swept")
def test_what_does_not_help_is_passed_over_and_told():
    verdict, bench = tried(make.observation(low_precision=True), {"learning rate x 10": 0.8})
    assert verdict.arm.cause is Cause.LEARNING_RATE
    assert verdict.arm.remedy.rate == 10
    assert bench.names == ["float32 throughout", "learning rate x 0.1", "learning rate x 10"]
    assert [arm.remedy.name for arm in verdict.arms] == bench.names


@pytest.mark.usefixtures("swept")
def test_nothing_helps_nothing_is_credited():
    verdict, bench = tried(make.observation(), {"re-initialised": 0.11})
    assert verdict.arm is None
    assert bench.names == ["learning rate x 0.1", "learning rate x 10", "re-initialised"]


@pytest.mark.usefixtures("swept")
@given(st.floats(0, 0.7), st.floats(-0.5, 0.5))
def test_nothing_is_credited_for_less_than_half_unless_the_full_length_agrees(progress, gain):
    verdict, bench = tried(make.observation(), {"re-initialised": gain}, progress=progress)
    missing = 1 - progress
    if gain >= max(missing / 2, 0.12) or gain >= 0.2:
        assert verdict.arm.cause is Cause.INITIALIZATION
    else:
        assert verdict.arm is None
    assert (("re-initialised", 1.0) in bench.ran) == (0.12 <= gain < max(missing / 2, 0.12))


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize(
    ("progress", "metric", "gained", "is_credited"),
    [
        (0.3, 0.9, 0.03, False),  # it learns, and its accuracy hardly moves
        (0.3, 0.9, 0.06, True),
        (0.05, 0.9, 0.03, True),  # it does not learn
        (0.3, 85.0, 0.03, True),  # nobody knows what much is on that scale
        (0.3, -0.2, 0.03, True),
    ],
)
def test_a_run_that_learns_must_gain_by_its_own_metric_too(progress, metric, gained, is_credited):
    change = {"re-initialised": 0.6}
    verdict, bench = tried(
        make.observation(), change, progress=progress, metric=metric, metrics={"re-initialised": gained}
    )
    assert (verdict.arm is not None) is is_credited
    assert (("re-initialised", 1.0) in bench.ran) is not is_credited  # a short run may only be too short to show it


@pytest.mark.parametrize(
    ("progress", "metric", "is_sound"),
    [
        (0.89, None, True),
        (0.87, None, False),
        (0.4, 0.96, True),
        (0.4, 0.94, False),
        (0.05, 0.97, False),
        (0.4, 97.0, False),
    ],
)
def test_a_loss_or_a_metric_that_leaves_nothing_to_gain(progress, metric, is_sound):
    assert nothing_to_gain(progress, metric) is is_sound


@pytest.mark.usefixtures("swept")
def test_the_first_that_comes_near_the_best_is_confirmed_at_full_length():
    gains = {"learning rate x 0.1": 0.1, "learning rate x 10": 0.28, "re-initialised": 0.4}
    verdict, bench = tried(make.observation(), gains)
    assert verdict.arm.remedy.name == "learning rate x 10"
    assert bench.ran[-1] == ("learning rate x 10", 1.0)
    at_half_only, _ = tried(make.observation(), gains | {("learning rate x 10", 1.0): 0.1})
    assert at_half_only.arm is None


@pytest.mark.usefixtures("swept")
def test_a_specific_cause_is_confirmed_at_full_length_for_a_smaller_gain():
    seen = make.observation(low_precision=True)
    gains = {"float32 throughout": 0.15, ("float32 throughout", 1.0): 0.25, "learning rate x 10": 0.9}
    ahead = {"float32 throughout": 0.15}
    verdict, bench = tried(seen, gains, leads=ahead)
    assert verdict.arm.cause is Cause.PRECISION
    assert bench.ran == [("float32 throughout", 0.5), ("float32 throughout", 1.0)]
    verdict, bench = tried(seen, gains | {("float32 throughout", 1.0): 0.19}, leads=ahead)
    assert verdict.arm.cause is Cause.LEARNING_RATE
    verdict, bench = tried(seen, gains, leads={"float32 throughout": 0.11})
    assert ("float32 throughout", 1.0) not in bench.ran


@pytest.mark.usefixtures("swept")
def test_an_unspecific_cause_that_leads_is_run_longer_and_must_still_give_back_half():
    gains = {"re-initialised": 0.1, ("re-initialised", 1.0): 0.4, "learning rate x 10": 0.9}
    verdict, bench = tried(sick(make.observation()), gains, leads={"re-initialised": 0.3})
    assert verdict.arm.cause is Cause.LEARNING_RATE
    assert ("re-initialised", 1.0) in bench.ran
    slow, _ = tried(sick(make.observation()), gains | {("re-initialised", 1.0): 0.6}, leads={"re-initialised": 0.3})
    assert slow.arm.cause is Cause.INITIALIZATION
    _, bench = tried(sick(make.observation()), gains)
    assert ("re-initialised", 1.0) not in bench.ran


@pytest.mark.usefixtures("swept")
def test_a_gain_that_the_metric_contradicts_is_none():
    gains = {"learning rate x 0.1": 0.9, "learning rate x 10": 0.5}
    verdict, bench = tried(make.observation(), gains, metrics={"learning rate x 0.1": -0.05})
    assert verdict.arm.remedy.name == "learning rate x 10"
    verdict, _ = tried(make.observation(), gains, metrics=dict.fromkeys(gains, -0.05))
    assert verdict.arm is None
    twice = [name for name in gains for _ in ("half", "whole")]
    assert [arm.remedy.name for arm in verdict.arms if arm.contradicted] == twice
    told = trial_of(verdict.arms[0], helped=False)
    assert told.sentence.endswith("; the loss fell and the metric did not agree")
    assert bench.names[-1] == "learning rate x 10"


@pytest.mark.usefixtures("swept")
def test_batches_in_order_are_judged_by_the_metric():
    shuffled = {"batches shuffled": 0.4}
    verdict, _ = tried(make.observation(ordered=True), {"batches shuffled": -0.1}, progress=0.95, metrics=shuffled)
    assert verdict.arm.cause is Cause.BATCHING
    verdict, _ = tried(make.observation(ordered=True), {"batches shuffled": -0.1}, progress=0.95)
    assert verdict.arm is None


def test_a_structure_is_tried_at_the_rate_that_a_sweep_asks_for(swept):
    swept[""] = 0.1
    verdict, bench = tried(sick(make.observation()), {"re-initialised, learning rate x 0.1": 0.9})
    assert verdict.arm.cause is Cause.INITIALIZATION
    assert verdict.arm.remedy.rate == 0.1
    assert bench.names == ["re-initialised", "re-initialised, learning rate x 0.1", "learning rate x 0.1"]


def test_a_structure_is_not_credited_with_what_its_rate_does(swept):
    swept[""] = 0.1
    gains = {"re-initialised, learning rate x 0.1": 0.9, "learning rate x 0.1": 0.55}
    verdict, _ = tried(sick(make.observation()), gains)
    assert verdict.arm.cause is Cause.LEARNING_RATE
    verdict, _ = tried(sick(make.observation()), gains | {"learning rate x 0.1": 0.5})
    assert verdict.arm.cause is Cause.INITIALIZATION


def test_a_sweep_that_is_content_with_the_rate_asks_for_nothing(swept):
    swept[""] = 1.0
    _, bench = tried(sick(make.observation()), {})
    assert bench.names == ["re-initialised", "learning rate x 0.1", "learning rate x 10"]


def test_the_rate_that_a_sweep_asks_for_takes_the_place_of_its_neighbour(swept):
    swept[""] = 0.003
    _, bench = tried(make.observation(), {"learning rate x 0.0032": 0.9})
    assert bench.names == ["learning rate x 0.0032"]
    swept[""] = 10.0
    _, bench = tried(make.observation(), {})
    assert bench.names[:2] == ["learning rate x 10", "learning rate x 0.1"]


@pytest.mark.usefixtures("swept")
def test_groups_with_rates_far_apart_are_given_one_rate_first():
    seen = make.observation(groups=(make.group(lr=0.1), make.group(lr=1e-6)))
    _, bench = tried(seen, {})
    assert bench.names[0] == "the same rate for every group"
    _, bench = tried(make.observation(groups=(make.group(lr=0.1), make.group(lr=0.01))), {})
    assert "the same rate for every group" not in bench.names


# --- budgets and accidents


@pytest.mark.usefixtures("swept")
def test_steps_that_are_used_up_end_the_search():
    verdict, bench = tried(make.observation(low_precision=True, missing=("w",)), {}, steps=900)
    assert len(bench.ran) == 2
    assert verdict.arm is None
    assert verdict.aborted == "the steps for experiments were used up"


@pytest.mark.usefixtures("swept")
def test_time_that_is_used_up_ends_it_too():
    verdict, bench = tried(make.observation(), {}, deadline=0.0)
    assert bench.ran == []
    assert verdict.aborted == "the time for experiments was used up"


@pytest.mark.usefixtures("swept")
def test_a_change_that_crashes_is_lost_and_nothing_else():
    gains = {"float32 throughout": "ValueError: no", "learning rate x 10": 0.9}
    verdict, _ = tried(make.observation(low_precision=True), gains)
    assert verdict.arm.cause is Cause.LEARNING_RATE
    told = trial_of(verdict.arms[0], helped=False)
    assert "could not be run: ValueError: no" in told.sentence
    assert "metric" not in told.sentence
    assert told.steps == 0


@pytest.mark.usefixtures("swept")
def test_a_structure_that_crashes_is_not_tried_at_other_rates(swept):
    swept[""] = 0.1
    _, bench = tried(sick(make.observation()), {"re-initialised": "ValueError: no"})
    assert bench.names.count("re-initialised, learning rate x 0.1") == 0


def test_a_trial_tells_what_was_measured():
    verdict, _ = tried(make.observation(low_precision=True), {"float32 throughout": 0.6}, progress=0.2)
    told = trial_of(verdict.arm, helped=True)
    assert (told.name, told.cause, told.helped) == ("float32 throughout", Cause.PRECISION, True)
    assert (told.progress, told.gain, told.steps) == (pytest.approx(0.8), pytest.approx(0.6), make.STEPS)
    assert told.sentence == "float32 throughout: progress 0.80 (+0.60) after 64 steps"


def test_a_real_bench_loses_the_arm_that_crashes():
    def broken(_):
        raise ValueError("no such layer\nand more")

    plain = Plain(make.outcome([1.0] * 8, evaluation=None), Yardstick(1.0, computed=True), 0.0)
    bench = Bench(make.recipe(epochs=8), plain, steps=100)
    remedy = next(step.remedy for step in plan(make.observation(low_precision=True), ()) if step)
    arm = bench.run(replace(remedy, change=broken))
    assert arm.failed == "ValueError: no such layer"
    assert bench.run(replace(remedy, change=broken)) is arm
    assert bench.steps_left == 99


def test_a_bench_lets_go_of_networks_of_past_arms_only():
    plain = Plain(make.outcome([1.0] * 8), Yardstick(1.0, computed=True), 0.0)
    bench = Bench(make.recipe(epochs=8), plain, steps=1000)
    remedies = [replace(r.remedy, change=lambda recipe: recipe) for r in plan(sick(make.observation()), ()) if r]
    first = bench.run(remedies[0])
    second = bench.run(remedies[0], 1.0)
    third = bench.run(replace(remedies[0], name="other"))
    assert isinstance(third.outcome.model, nn.Linear)
    assert {type(arm.outcome.model) for arm in bench.arms.values()} == {nn.Module, nn.Linear}
    assert (first.share, second.share) == (0.5, 1.0)
