"""From numbers to verdicts."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from graddoctor.errors import GraddoctorError
from graddoctor.lab import Question
from graddoctor.lab.judgement import answer, judge
from graddoctor.lab.table import Row, Table

TABLE = Table([Row({}, seed, {"gain": value}) for seed, value in enumerate((0.4, 0.5, 0.6))])
GAIN = Question("It gains.", lambda table: table.of("gain"), above=0.1)


def test_the_interval_is_students():
    told = answer(GAIN, TABLE)
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=stats.sem([0.4, 0.5, 0.6]))
    assert (told.mean, told.low, told.high) == pytest.approx((0.5, low, high))
    assert told.each == (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("bound", "outcome"),
    [
        ({"above": 0.2}, "holds"),
        ({"above": 0.3}, "open"),
        ({"above": 0.9}, "fails"),
        ({"below": 0.8}, "holds"),
        ({"below": 0.7}, "open"),
        ({"below": 0.2}, "fails"),
    ],
)
def test_an_assertion_holds_where_the_whole_interval_does(bound, outcome):
    assert answer(replace(GAIN, **{"above": None, **bound}), TABLE).outcome == outcome


@pytest.mark.parametrize("bounds", [{"above": None}, {"below": 0.5}])
def test_a_question_has_one_bound(bounds):
    with pytest.raises(GraddoctorError, match="needs one bound"):
        answer(replace(GAIN, **bounds), TABLE)


def test_numbers_that_are_none_leave_it_open():
    lost = Table([Row({}, seed, {"gain": value}) for seed, value in enumerate((0.4, math.nan))])
    assert answer(GAIN, lost).outcome == "open"


@pytest.mark.parametrize(
    ("outcomes", "controls", "verdict"),
    [
        (["holds", "holds"], ["holds"], "reproduced"),
        (["holds", "fails"], [], "only under these conditions"),
        (["fails", "fails"], ["holds"], "not reproduced"),
        (["holds", "open"], [], "inconclusive"),
        (["holds"], ["fails"], "inconclusive"),
        (["fails"], ["open"], "inconclusive"),
        ([], ["holds"], "inconclusive"),
    ],
)
def test_a_claim_is_judged_by_its_questions(outcomes, controls, verdict):
    told = answer(GAIN, TABLE)
    answers = [replace(told, outcome=one) for one in outcomes]
    answers += [replace(told, outcome=one, control=True) for one in controls]
    assert judge(answers) == verdict
