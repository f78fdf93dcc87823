"""Figures of findings as sentences: each one that a rule gives has a meaning."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graddoctor
from graddoctor.explain.figures import TOLD, sentences, sized, times

RULES = Path(graddoctor.__file__).parent / "diagnose"


def test_every_figure_that_a_rule_gives_is_told():
    source = "".join(file.read_text(encoding="utf-8") for file in sorted((RULES / "conditions").glob("*.py")))
    given_ = set(re.findall(r'"([a-z]+(?:_[a-z0-9]+)*)": (?!.*Suspicion)', source))
    given_ |= set(re.findall(r'numbers\["(\w+)"\]', source)) | {"gain"}
    assert len(given_) > 25
    assert given_ <= set(TOLD)


@pytest.mark.parametrize(
    ("decades", "told"),
    [
        (0.0, "1"),
        (0.5, "3.2"),
        (1.0, "10"),
        (-2.1, "130"),
        (4.08, "12,000"),
        (5.9999, "about 1 million"),
        (8.2, "about 160 million"),
        (8.9999, "about 1 billion"),
        (math.nan, "an unknown number of"),
        (11.0, "about 100 billion"),
        (13.3, "about 20 trillion"),
        (-20.4, "10^20"),
        (400.0, "10^400"),
    ],
)
def test_decades_become_factors(decades, told):
    assert times(decades) == told


@given(st.floats(-320, 320, allow_nan=False))
def test_any_number_of_decades_has_a_factor_that_is_about_right(decades):
    told = times(decades)
    number, _, unit = told.removeprefix("about ").replace(",", "").partition(" ")
    power = float(number[3:]) if number.startswith("10^") else math.log10(float(number))
    power += {"": 0, "million": 6, "billion": 9, "trillion": 12}[unit]
    assert power == pytest.approx(abs(decades), abs=0.51 if number.startswith("10^") else 0.05)


@given(st.sampled_from(sorted(TOLD)), st.floats(-400, 400, allow_nan=False))
def test_every_sentence_is_one_or_none(name, value):
    said = list(sentences({name: value}))
    assert len(said) <= 1
    assert all(one.endswith(".") and "nan" not in one.lower().split() for one in said)


def test_a_size_is_the_same_smaller_or_larger():
    assert [sized(decades) for decades in (0.2, -4.08, 1.0)] == ["as large", "12,000 times smaller", "10 times larger"]


def test_what_is_no_number_or_not_known_is_not_told():
    assert list(sentences({"gain": math.nan, "decades_lost": math.inf, "weather": 3.0})) == []


def test_a_signal_that_stays_is_not_told_and_shrinking_is_told_from_growing():
    assert list(sentences({"signal_decades": 0.2})) == []
    (less,), (more,) = sentences({"signal_decades": -3.0}), sentences({"signal_decades": 3.0})
    assert "1,000 times smaller" in less
    assert "1,000 times larger" in more


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"fall_share": -0.12}, ["From the first epoch to the last the loss rose by 12 %."]),
        ({"progress": -0.35}, ["Training ended worse than a constant answer."]),
        ({"shared_gradient": -0.1}, ["Inputs that are close to one another share 0 % of their gradient."]),
        ({"decades_over_time": 0.0}, []),
        ({"decades_over_time": -45.0}, ["Over a whole sequence nothing of the gradient is left."]),
        ({"decades_lost_per_layer": 3.0}, ["On average a layer hands on less than 1 % of the gradient that it gets."]),
        ({"identical_layers": 1.0}, ["Units begin all alike in 1 layer."]),
        ({"not_in_optimizer": 1.0}, ["Not given to the optimizer: 1 parameter."]),
        (
            {"gradient_norm_jump_decades": 3.7, "step": 0.0},
            ["At its worst the whole gradient was 5,000 times as large as is usual in this run."],
        ),
    ],
)
def test_odd_figures_are_told_as_what_they_are(figures, said):
    assert list(sentences(figures)) == said
