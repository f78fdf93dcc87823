"""Words and numbers, as a reader meets them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.show import words
from graddoctor.show.report import Coverage, LossCurve, LossShare, Waterfall
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial


@pytest.mark.parametrize(
    ("value", "told"),
    [(-0.854, "-0.85"), (0.2, "+0.20"), (-0.001, "0.00"), (None, "-"), (math.nan, "-"), (12, "+12.00")],
)
def test_decades_carry_their_sign(value, told):
    assert words.signed(value) == told


@given(st.floats(-1e300, 1e300))
def test_a_figure_is_short_and_true(value):
    told = words.figure(value)
    assert len(told) <= 11
    assert float(told) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "told"),
    [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "-infinite"), (3.0, "3"), (1e-9, "1e-09")],
)
def test_odd_figures_have_words(value, told):
    assert words.figure(value) == told


@given(st.text(min_size=1, max_size=80), st.integers(8, 40))
def test_a_long_name_keeps_both_ends(name, width):
    short = words.shorten(name, width)
    assert len(short) <= max(width, 5)
    if len(name) > width:
        assert "..." in short
        assert name.startswith(short.split("...")[0])
        assert name[-1] == short[-1]
    else:
        assert short == name


def test_names_in_a_column_lose_what_they_share():
    names = [f"model.decoder.layers.{i}.attention" for i in (1, 22)] + ["3 smaller rows"]
    assert words.fitted(names, 20) == ["1.attention", "22.attention", "3 smaller rows"]
    assert words.fitted(["a.b", "a.c"], 20) == ["a.b", "a.c"]
    assert words.fitted([], 20) == []


@pytest.mark.parametrize(("count", "told"), [(0, ""), (1, "m0"), (3, "m0, m1, m2"), (9, "m0, m1 and 7 more")])
def test_a_listing_counts_what_it_leaves_out(count, told):
    assert words.listing([f"m{i}" for i in range(count)], 2) == told


def test_the_headline_names_what_to_change():
    blame = Blame(Cause.ACTIVATION, ("a", "b", "c"))
    finding = Finding(Condition.VANISHING, Severity.CRITICAL, causes=(blame,))
    assert words.headline(finding) == "Vanishing gradient: change the activation in 3 modules, first of all in a."
    rate = Finding(Condition.LEARNING_RATE_TOO_HIGH, Severity.CRITICAL, causes=(Blame(Cause.LEARNING_RATE),))
    assert words.headline(rate, 1) == "Learning rate too high: change the learning rate. And 1 finding more."
    assert words.headline(Finding(Condition.PLATEAU, Severity.WARNING)) == "Plateau."


def test_who_took_the_gradient_is_told_largest_first():
    told = words.budget(Waterfall((), -11.8, -5.0, by_kind={"weight": -0.9, "activation": -10.9, "other": 0.01}))
    assert "11.8 decades of gradient are lost: activation 10.9, weight 0.9." in told
    assert "shrink by 5.0 decades" in told


def test_a_budget_that_keeps_its_size_is_no_loss():
    assert "keeps its size (-0.3 decades)" in words.budget(Waterfall((), -0.3))


def test_a_cut_is_told_before_any_sum():
    told = words.budget(Waterfall((), 0.4, None, "no batch axis", "net.relu", "zero"))
    assert told.startswith("The chain ends at net.relu: from there back to the input the gradient is exactly zero")
    assert "not measured: no batch axis" in told
    assert "is not finite" in words.budget(Waterfall((), 0.0, cut="head", cut_kind="nonfinite"))


def test_the_terms_of_a_loss_are_told_largest_first():
    shares = (LossShare("mse_loss", 0.25, ("a", "b", "c", "d")), LossShare("pow", 0.75))
    assert words.losses(Waterfall((), 0.0, losses=shares)) == (
        "The gradient at the first layer comes from 2 terms of the loss: pow 75 %, mse loss of a, b and 2 more 25 %."
    )
    against = (LossShare("mean", 1.2, ("a",)), LossShare("abs", -0.2, ("b",)))
    assert words.losses(Waterfall((), 0.0, losses=against)).endswith(
        "mean of a 120 %, abs of b -20 %. A negative share works against the others."
    )
    assert words.losses(Waterfall((), 0.0)) == ""


def test_coverage_says_what_was_seen_and_why_no_more():
    seen = Coverage(120, 40_000, 60.0, 2, aborted=True, reason="time was up")
    assert words.coverage(seen) == "120 of 40,000 steps seen, 2 experiments, 60.0 s, ended early: time was up"
    assert "experiments switched off" in words.coverage(Coverage(experimented=False))


def test_what_was_gained_is_left_to_the_experiments():
    assert words.numbers({"lost_decades": 3.0, "gain": 0.138}) == "lost decades 3"
    assert words.numbers({"gain": 0.138}) == ""


def test_the_loss_is_told_with_what_it_is_measured_against():
    told = words.loss(LossCurve.from_values([2.0, 1.0, math.nan], baseline=2.5))
    assert told == (
        "The loss went from 2 to 1 in 3 steps; predicting the same for every sample gives 2.5; "
        "it is not finite from step 2 on."
    )
    assert words.loss(LossCurve.from_values([math.nan])) == "The loss was never finite."


def test_only_what_was_confirmed_is_called_so():
    helped = Trial("x", Cause.LOSS, 10, 0.5, 0.5, helped=True)
    assert (
        words.confirmation(Finding(Condition.PLATEAU, Severity.WARNING, trials=(helped,))) == "confirmed by experiment"
    )
    assert words.confirmation(Finding(Condition.PLATEAU, Severity.WARNING)) == "not confirmed by experiment"
    assert words.confirmation(Finding(Condition.PLATEAU, Severity.NOTE)) == ""
    assert words.trial(helped) == "X: helped, +50 points of progress in 10 steps"
    assert words.trial(Trial("x", Cause.LOSS, 1, math.nan, math.nan)) == "X: did not help in 1 step"
