"""What a report holds is checked where it is made."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.errors import GraddoctorError
from graddoctor.show.report import ActivationState, HeatMap, LossCurve, Report, UpdateRatios


def test_a_verdict_is_one_of_three():
    with pytest.raises(GraddoctorError, match="got 'ill'"):
        Report("net", "ill", "why")


def test_zeros_and_nonfinite_norms_are_told_apart_from_unseen_ones():
    heat = HeatMap.from_norms(["a", "b"], [0, 1], [[0.0, 1e-3], [math.inf, None]])
    assert heat.values == ((None, -3.0), (None, None))
    assert heat.zero_cells == ((0, 0),)
    assert heat.nonfinite_cells == ((1, 0),)


def test_ratios_that_an_axis_of_decades_cannot_hold_are_left_out():
    updates = UpdateRatios.from_ratios(["w"], [0, 1, 2, 3], [[1e-3, 0.0, math.nan, None]])
    assert updates.values == ((1e-3, None, None, None),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeatMap(("a",), (0, 1), ((1.0,),)),
        lambda: HeatMap(("a", "b"), (0,), ((1.0,),)),
        lambda: UpdateRatios(("a",), (0,), ()),
        lambda: LossCurve((0, 1), (1.0,)),
        lambda: LossCurve((0, 1), (1.0, 2.0), smoothed=(1.0,)),
        lambda: ActivationState(0, edges=(0.0, 1.0), shares=(0.5, 0.5)),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(make):
    with pytest.raises(GraddoctorError, match=r"\d"):
        make()


@given(st.lists(st.floats(-1e300, 1e300) | st.just(math.nan) | st.just(math.inf), min_size=40, max_size=120))
def test_the_smoothed_loss_is_the_mean_of_the_last_twentieth(losses):
    curve = LossCurve.from_values(losses)
    width = len(losses) // 20
    for end, (value, smooth) in enumerate(zip(curve.values, curve.smoothed, strict=True), start=1):
        window = [loss for loss in losses[max(0, end - width) : end] if math.isfinite(loss)]
        if value is None:
            assert smooth is None
        else:
            assert smooth == pytest.approx(sum(loss / len(window) for loss in window), rel=1e-9, abs=1e285)


def test_the_first_step_that_is_not_finite():
    assert LossCurve.from_values([1.0, math.nan, 2.0], steps=[0, 10, 20]).first_nonfinite == 10
    assert LossCurve.from_values([1.0]).first_nonfinite is None


def test_short_curves_are_not_smoothed_and_odd_baselines_not_drawn():
    curve = LossCurve.from_values([1.0, 2.0], baseline=math.inf)
    assert curve.smoothed == ()
    assert curve.baseline is None
