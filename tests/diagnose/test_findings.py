"""What a finding says, on experiments made by hand."""

from types import SimpleNamespace

import pytest

from graddoctor.diagnose.findings import confirmed
from graddoctor.diagnose.suspicion import Suspicion, held_back
from graddoctor.terms import Cause, Condition


def finding(*suspicions, cause=Cause.INITIALIZATION, deviations=None, modules=(), left=()):
    remedy = SimpleNamespace(name="tried", modules=modules, rate=1.0, causes=(cause,))
    arm = SimpleNamespace(cause=cause, remedy=remedy, gain=0.4)
    return confirmed(arm, suspicions, left, (), missing=0.8, deviations=deviations or {})


def test_a_start_without_any_symptom_still_has_a_place():
    """All layers alike, none far off: the experiment draws them all again."""
    assert finding(deviations={"0": 0.2, "2": 0.3, "4": 0.1}).modules == ("2", "0", "4")


def test_symptoms_and_what_is_far_off_come_before_everything_else():
    vanishing = Suspicion(Condition.VANISHING, ("4",))
    assert finding(vanishing, deviations={"0": 0.2, "2": 1.5, "4": 0.1}).modules == ("2", "4")
    assert finding(vanishing, deviations={"0": 0.2, "2": 0.3, "4": 0.1}).modules == ("4",)


def test_other_causes_name_nothing_that_was_not_seen():
    assert finding(cause=Cause.LEARNING_RATE, deviations={"0": 0.2}).modules == ()


def test_the_share_is_what_was_gained_of_what_was_missing():
    assert finding().causes[0].share == pytest.approx(0.5)


def named(condition, *, cause, modules=(), **more):
    return finding(Suspicion(condition, ("cell",), **more), cause=cause, modules=modules)


def test_what_happens_in_time_is_told_by_what_carries_the_state():
    vanishing = Condition.RECURRENT_VANISHING
    assert named(vanishing, cause=Cause.RECURRENCE).condition is vanishing
    assert named(vanishing, cause=Cause.GATES).condition is vanishing
    assert named(vanishing, cause=Cause.ACTIVATION, modules=("cell",)).condition is vanishing
    assert named(vanishing, cause=Cause.OPTIMIZER).condition is Condition.LEARNING_RATE_TOO_LOW
    assert Condition.RECURRENT_VANISHING not in named(vanishing, cause=Cause.OPTIMIZER).consequences


def test_depth_is_degradation_unless_gradient_is_lost_over_it():
    blocks = Suspicion(Condition.DEGRADATION, ("a",))
    lost = Suspicion(Condition.VANISHING, ("a",), at_start=True)
    growing = Suspicion(Condition.EXPLODING, ("a",), at_start=True)
    assert finding(blocks, cause=Cause.DEPTH).condition is Condition.DEGRADATION
    assert finding(blocks, lost, cause=Cause.DEPTH).condition is Condition.VANISHING
    later = Suspicion(Condition.VANISHING, ("a",))
    assert finding(blocks, later, cause=Cause.DEPTH).condition is Condition.DEGRADATION
    told = finding(blocks, growing, cause=Cause.DEPTH)
    assert (told.condition, told.consequences) == (Condition.DEGRADATION, (Condition.EXPLODING,))
    assert Condition.DEGRADATION not in finding(blocks, lost, cause=Cause.ACTIVATION).consequences


@pytest.mark.parametrize(("left", "follows"), [(3.4, False), (1.8, False), (0.8, True), (0.0, True)])
def test_what_is_less_than_half_as_bad_followed_from_the_cause(left, follows):
    seen = [Suspicion(Condition.UNSCALED_INPUT), Suspicion(Condition.SATURATION, ("act",), decades=3.4)]
    after = [Suspicion(Condition.SATURATION, ("act",), decades=left)]
    told = finding(*seen, cause=Cause.INPUT_SCALE, left=after)
    assert (Condition.SATURATION in told.consequences) is follows


def test_what_is_not_a_matter_of_more_or_less_is_there_or_gone():
    start = Suspicion(Condition.POOR_INITIALIZATION, ("fc",), at_start=True)
    assert finding(start, left=[start]).consequences == ()
    dead = Suspicion(Condition.DEAD_UNITS, ("act",), decades=held_back(1.0))
    assert finding(dead, cause=Cause.LEARNING_RATE, left=[dead]).consequences == ()
