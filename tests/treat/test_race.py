"""A race: the same whatever the order of finishing, and the best is never sent home by the clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import gave, laboratory, lost, remedy

from graddoctor.treat.race import ALIKE, SHORTEST, Race

NAMES = "abcdefgh"
HORIZON = 1000


def race(scores, horizon=HORIZON, slots=1):
    """One that has begun, in which every run gives the score of its candidate."""

    def table(task):
        score = scores.get(task.name, 0.0)
        score = score(task.steps) if callable(score) else score
        return score if not isinstance(score, float) else gave(score)

    one = Race(laboratory(table, slots), horizon)
    one.laboratory.executor.slots = 1
    assert one.begin() is not None
    one.laboratory.executor.slots = slots
    return one


def names(entries):
    return "".join(entry.name for entry in entries)


def candidates(letters=NAMES):
    return [remedy(letter) for letter in letters]


def test_it_begins_with_the_recipe_as_given():
    one = race({"as given": 0.25})
    assert (one.base.name, one.base.score, one.base.result.progress) == ("as given", 0.25, 0.25)
    assert [(rung.steps, rung.title, names(rung.entries)) for rung in one.rungs] == [(HORIZON, "as given", "as given")]


def test_a_race_that_is_too_late_does_not_begin():
    one = Race(laboratory(lambda task: gave(0.5)), HORIZON)
    one.laboratory.deadline = -math.inf
    assert one.begin() is None
    assert one.rungs == []


def test_the_best_first_and_the_record_in_the_order_of_prescription():
    one = race({"a": 0.2, "b": 0.9, "c": 0.5})
    assert names(one.rung(candidates("abc"), 0.5, 2, "some")) == "bc"
    rung = one.rungs[-1]
    assert (rung.steps, rung.title, names(rung.entries)) == (500, "some", "abc")
    assert [entry.kept for entry in rung.entries] == [False, True, True]


def test_alike_the_first_prescribed_goes_first():
    one = race({"a": 0.90, "b": 0.9 + ALIKE / 5, "c": 0.5})
    assert names(one.rung(candidates("abc"), 1.0, 3)) == "abc"


def test_what_is_lost_never_goes_on():
    one = race({"a": lost(), "b": 0.1, "c": lost("hung")})
    assert names(one.rung(candidates("abc"), 1.0, 3)) == "b"
    assert math.isnan(one.rungs[-1].entries[0].score)
    assert one.rungs[-1].entries[0].worth == -math.inf


def test_every_candidate_runs_once():
    one = race({"a": 0.5})
    one.rung([*candidates("ab"), *candidates("ba")], 1.0, 9)
    assert sorted(task.name for task in one.laboratory.executor.asked) == ["a", "as given", "b"]


def test_what_the_deadline_left_out_is_no_entry():
    one = race({"a": 0.5})
    one.laboratory.deadline = -math.inf
    assert one.rung(candidates("ab"), 1.0, 2) == []
    assert one.rungs[-1].entries == ()


def test_halving_keeps_three_at_least_and_runs_the_last_rung_whole():
    one = race({letter: k / 10 for k, letter in enumerate(NAMES)})
    assert names(one.halve(candidates(), (0.25, 0.5, 1.0))) == "hgf"
    assert [(rung.steps, len(rung.entries)) for rung in one.rungs[1:]] == [(250, 8), (500, 3), (1000, 3)]


def test_short_runs_have_fewer_rungs():
    one = race({"a": 0.9}, horizon=SHORTEST)
    one.halve(candidates(), (0.25, 0.5, 1.0))
    assert [rung.steps for rung in one.rungs[1:]] == [SHORTEST]
    one = race({"a": 0.9}, horizon=10)
    one.halve(candidates(), (0.25, 0.5, 1.0))
    assert [rung.steps for rung in one.rungs] == [10, 10]


def test_one_that_learns_late_is_lost_and_that_is_known():
    one = race({"h": lambda steps: gave(0.99 if steps == HORIZON else 0.0), "a": 0.5, "b": 0.4, "c": 0.3, "d": 0.2})
    assert "h" not in names(one.halve(candidates(), (0.25, 1.0)))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(64, 3000))
def test_who_is_best_at_every_length_wins(scores, horizon):
    one = race(dict(zip(NAMES, scores, strict=False)), horizon=horizon)
    winner = one.halve(candidates(NAMES[: len(scores)]), (0.25, 0.5, 1.0))[0]
    assert winner.score >= max(scores) - ALIKE


@pytest.mark.parametrize("slots", [2, 4, 8])
def test_the_order_of_finishing_does_not_matter(slots):
    scores = {letter: (k * 37 % 11) / 11 for k, letter in enumerate(NAMES)}
    one, other, same = race(scores), race(scores, slots=slots), candidates()
    for each in (one, other):
        each.rung(same, 0.5, 3)
    assert one.rungs == other.rungs
    assert [task.key for task, _ in one.laboratory.finished] == [task.key for task, _ in other.laboratory.finished]
