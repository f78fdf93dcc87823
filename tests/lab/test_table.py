"""What was measured, and how questions read it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.errors import GraddoctorError
from graddoctor.lab.table import Row, Table

TABLE = Table(
    [
        Row(
            {"depth": depth, "start": start},
            seed,
            {"lost": depth * (2 if start == "bad" else 1) + seed, "curve": [seed, depth]},
        )
        for seed in (1, 0)
        for start in ("bad", "good")
        for depth in (5, 10, 20)
    ]
)


def test_values_come_in_the_order_of_the_seeds():
    assert TABLE.seeds == [0, 1]
    assert TABLE.of("lost", depth=5, start="good").tolist() == [5, 6]
    assert TABLE.of("curve", depth=20, start="bad").tolist() == [[0, 20], [1, 20]]


def test_a_question_about_no_arm_or_many_is_refused():
    with pytest.raises(GraddoctorError, match="names none"):
        TABLE.of("lost", depth=6)
    with pytest.raises(GraddoctorError, match=r"must name one arm.*'start': 'good'"):
        TABLE.of("lost", depth=5)


def test_differences_are_paired():
    assert TABLE.difference("lost", {"start": "bad"}, {"start": "good"}, depth=20).tolist() == [20, 20]


def test_a_slope_is_that_of_each_seed():
    assert TABLE.slope("lost", over="depth", start="bad") == pytest.approx([2, 2])


def test_tuned_takes_the_setting_with_the_best_mean():
    assert TABLE.tuned("lost", over="depth", start="good").tolist() == [20, 21]


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(-3, 3), st.floats(-3, 3))
def test_a_slope_is_linear_in_what_was_measured(noise, slope, level):
    rows = [Row({"x": x}, 0, {"y": slope * x + level + error}) for x, error in enumerate(noise)]
    flat = [Row({"x": x}, 0, {"y": error}) for x, error in enumerate(noise)]
    difference = Table(rows).slope("y", over="x") - Table(flat).slope("y", over="x")
    assert np.allclose(difference, slope, atol=1e-9)
