"""What a finding says, on experiments made by hand."""

from types import SimpleNamespace

import pytest

from graddoctor.diagnose.findings import confirmed
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Cause, Condition


def finding(*suspicions, cause=Cause.INITIALIZATION, deviations=None, modules=()):
    remedy = SimpleNamespace(name="tried", modules=modules, rate=1.0, causes=(cause,))
    arm = SimpleNamespace(cause=cause, remedy=remedy, gain=0.4)
    return confirmed(arm, suspicions, (), (), missing=0.8, deviations=deviations or {})


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
