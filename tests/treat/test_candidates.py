"""Candidates: what the causes ask for, no more of it than is of use, and each at the rate that suits it."""

import pytest
from made_up import leave, made, placebo, prescriber, raising

import treat_recipes
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.task import Setting
from graddoctor.prove.yardstick import measure
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.optimizer import rate
from graddoctor.remedies.pharmacy import KEEPABLE, PHARMACY
from graddoctor.terms import Cause
from graddoctor.treat.candidates import MOST, Candidates, combined


def candidates(recipe, keep=()):
    return Candidates(Facts(recipe, (1.0, 2.0), 120), Laboratory(Setting(recipe, measure(recipe))), keep)


def names(remedies):
    return [one.name for one in remedies]


def swept(some):
    return [task.name for task, _ in some.laboratory.finished if task.sweep]


@pytest.mark.parametrize("cause", PHARMACY, ids=lambda cause: cause.value)
def test_what_a_cause_asks_for_addresses_it(cause):
    some = candidates(treat_recipes.saturated())
    for one in some.of(cause):
        assert cause in one.causes
        assert one.edits
        assert len(one.each) <= 2
    assert some.failed == []


def test_no_more_than_so_many_of_a_cause(monkeypatch):
    monkeypatch.setitem(PHARMACY, Cause.DEPTH, (prescriber(*(made(f"{k}", leave, Cause.DEPTH) for k in range(20))),))
    assert len(candidates(treat_recipes.sound()).of(Cause.DEPTH)) == MOST


def test_a_prescriber_that_raises_is_named_and_costs_no_other(monkeypatch):
    def broken(facts):
        raise ZeroDivisionError("by what?")

    monkeypatch.setitem(PHARMACY, Cause.DEPTH, (broken, prescriber(made("sound", leave, Cause.DEPTH))))
    some = candidates(treat_recipes.sound())
    assert names(some.of(Cause.DEPTH)) == ["sound"]
    assert some.failed == [("broken", "ZeroDivisionError: by what?")]


def test_an_activation_comes_with_its_start_too(monkeypatch):
    found = candidates(treat_recipes.saturated()).of(Cause.ACTIVATION)
    with_start = [one for one in found if len(one.each) == 2]
    assert 1 <= len(with_start) <= 3
    for one in with_start:
        assert one.each[0].name in names(found)
        assert one.each[1].causes == (Cause.INITIALIZATION,)
    monkeypatch.setitem(PHARMACY, Cause.ACTIVATION, (prescriber(made("bad", raising)),))
    some = candidates(treat_recipes.saturated())
    assert names(some.of(Cause.ACTIVATION)) == ["bad"]
    ((name, why),) = some.failed
    assert name == "initialization after bad"
    assert "ValueError: this network" in why


def test_a_second_remedy_is_made_for_the_treated_network():
    some = candidates(treat_recipes.saturated())
    swap = next(one for one in some.of(Cause.ACTIVATION) if len(one.each) == 1)
    both = some.of(Cause.INITIALIZATION, swap)
    assert both
    assert all(one.each[0].name == swap.name and len(one.each) == 2 for one in both)
    alone = some.of(Cause.INITIALIZATION)[0]
    plans = [dict(one.edits[-1].arguments) for one in (both[0], alone)]
    assert plans[0] != plans[1]


def test_another_optimizer_replaces_a_rate():
    some = candidates(treat_recipes.slow())
    for one in some.of(Cause.OPTIMIZER, rate(some.facts, 100.0)):
        assert "learning rate" not in one.each[0].name


@pytest.mark.parametrize("part", KEEPABLE)
def test_what_is_kept_is_not_touched(part):
    touched = {
        "architecture": {Cause.ACTIVATION, Cause.NORMALIZATION, Cause.DEPTH, Cause.OUTPUT_ACTIVATION},
        "weights": {Cause.INITIALIZATION},
        "optimizer": {Cause.LEARNING_RATE, Cause.OPTIMIZER, Cause.CLIPPING, Cause.WEIGHT_DECAY, Cause.SCHEDULE},
        "loss": {Cause.LOSS, Cause.TARGET_SCALE},
        "data": {Cause.INPUT_SCALE, Cause.TARGET_SCALE, Cause.BATCHING},
    }[part]
    some = candidates(treat_recipes.unscaled(), keep=[part])
    for cause in PHARMACY:
        for one in some.of(cause):
            assert touched.isdisjoint(cause for single in one.each for cause in single.causes)


# --- rates


def test_every_remedy_runs_at_its_own_rate_and_the_recipe_at_others():
    some = candidates(treat_recipes.slow())
    found = some.tuned([None, placebo()])
    own = found[0]
    assert 1e3 <= own.rate <= 1e5
    assert names(found)[1:3] == ["learning rate x 0.1", "learning rate x 10"]
    assert names(found)[3:] == ["placebo 1", f"placebo 1, {own.name}"]
    assert swept(some) == ["as given", "placebo 1"]


def test_one_sweep_serves_all_of_a_kind():
    some = candidates(treat_recipes.slow())
    found = some.tuned([placebo(1), placebo(2), placebo(3)])
    assert swept(some) == ["placebo 1"]
    assert len(found) == 6


def test_only_what_changes_the_scale_of_the_gradient_is_swept():
    some = candidates(treat_recipes.slow())
    assert names(some.tuned([placebo(1, Cause.CLIPPING)])) == ["placebo 1"]
    assert swept(some) == []


def test_a_rate_that_is_to_be_kept_is_not_tuned():
    some = candidates(treat_recipes.slow(), keep=["optimizer"])
    assert names(some.tuned([None, placebo()])) == ["placebo 1"]
    assert some.laboratory.finished == []


def test_a_rate_is_changed_where_it_stands():
    some = candidates(treat_recipes.slow())
    once = some.at(placebo(), 10.0)
    assert names(once.each) == ["placebo 1", "learning rate x 10"]
    twice = some.at(once, 3.0)
    assert names(twice.each) == ["placebo 1", "learning rate x 30"]
    assert twice.rate == pytest.approx(30.0)
    assert some.at(rate(some.facts, 100.0), 1 / 3).name == "learning rate x 33"


def test_one_after_the_other():
    assert combined([]) is None
    assert combined([placebo(1)]).name == "placebo 1"
    assert names(combined([placebo(1), placebo(2), placebo(3)]).each) == ["placebo 1", "placebo 2", "placebo 3"]
