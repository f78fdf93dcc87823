"""What a run is worth: the smaller of its shares of what is to be gained."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import gave, lost

from graddoctor.treat.worth import worth_of

BASE = gave(0.1)
SCORED = gave(0.1, 0.5)
shares = st.floats(-1, 1, allow_nan=False)


def test_the_best_is_worth_one_and_the_given_recipe_nothing():
    assert worth_of([gave(0.9), gave(0.5), gave(0.1)], BASE) == pytest.approx([1.0, 0.5, 0.0])
    assert worth_of([gave(0.0)], BASE)[0] < 0


def test_a_lost_run_is_worth_less_than_any_other():
    worth = worth_of([lost(), lost("hung"), gave(-5.0), replace(gave(0.9), failed="RuntimeError")], BASE)
    assert worth[0] == worth[1] == worth[3] == -math.inf
    assert math.isfinite(worth[2])


def test_loss_and_metric_must_both_gain():
    noise, both, metric_only = gave(0.9, 0.5), gave(0.8, 0.9), gave(0.1, 0.95)
    worth = worth_of([noise, both, metric_only], SCORED)
    assert worth.index(max(worth)) == 1
    assert worth[0] == pytest.approx(0.0)
    assert worth[2] == pytest.approx(0.0)


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_a_lost_run(metric):
    assert worth_of([gave(0.9, metric), gave(0.5, 0.9)], SCORED)[0] == -math.inf


def test_a_metric_that_never_is_a_number_says_nothing():
    assert worth_of([gave(0.9, math.nan), gave(0.5, math.nan)], gave(0.1, math.nan)) == pytest.approx([1.0, 0.5])


def test_a_given_recipe_without_a_metric_counts_as_the_worst():
    assert worth_of([gave(0.9, 0.4), gave(0.9, 0.8)], gave(0.1, math.nan)) == pytest.approx([0.0, 1.0])


def test_a_measure_that_nobody_gains_in_says_nothing():
    assert worth_of([gave(0.9, 0.5), gave(0.5, 0.5)], SCORED) == pytest.approx([1.0, 0.5])
    assert worth_of([gave(0.1), gave(0.1)], BASE) == [0.0, 0.0]
    assert worth_of([], BASE) == []


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=6), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_unit_of_a_metric_does_not_matter(runs, factor, shift):
    results = [gave(progress, metric) for progress, metric in runs]
    moved = [gave(progress, factor * 100 * metric + shift) for progress, metric in runs]
    one, other = worth_of(results, SCORED), worth_of(moved, gave(0.1, factor * 50 + shift))
    gains = [metric - 0.5 for _, metric in runs]
    if max(map(abs, gains)) > 0.01:  # what is next to nothing in one unit is not in another
        assert other == pytest.approx(one, abs=1e-6)


@given(st.lists(shares, min_size=1, max_size=8))
def test_never_above_one_and_the_best_first(runs):
    worth = worth_of([gave(progress) for progress in runs], BASE)
    assert max(worth) <= 1 + 1e-9
    assert worth.index(max(worth)) == runs.index(max(runs)) or max(runs) - 0.1 <= 1e-3
