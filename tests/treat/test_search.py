"""The search: the smallest change that closes the gap, and nothing that wins by its rate alone. Real trainings."""

import math

import pytest
from made_up import faster, leave, made, placebo, raising
from told import gave, lost, remedy
from told import laboratory as told

import treat_recipes
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.task import Setting
from graddoctor.prove.yardstick import measure
from graddoctor.remedies.data import standardised_input
from graddoctor.remedies.facts import Facts
from graddoctor.terms import Cause
from graddoctor.treat.candidates import LARGEST, LARGEST_THROUGH_TIME, Candidates, combined
from graddoctor.treat.race import Race
from graddoctor.treat.search import Search

STEPS = 120


def search(recipe, *aims, keep=(), laboratory=None):
    laboratory = laboratory or Laboratory(Setting(recipe, measure(recipe)))
    return Search(laboratory, Candidates(Facts(recipe, (1.0,), STEPS), laboratory, keep), Race(laboratory, STEPS), aims)


def tried(one):
    return {task.name for task, _ in one.laboratory.finished}


def test_a_rate_is_found(pharmacy):
    found = search(treat_recipes.slow(), Cause.LEARNING_RATE).run()
    assert found.remedy.causes == (Cause.LEARNING_RATE,)
    assert 1e3 <= found.remedy.rate <= 1e5
    assert found.plain.score < 0.05
    assert found.tuned.score > 0.9
    assert found.tuned.name == found.leader.name == found.remedy.name


def test_what_wins_by_its_rate_does_not_win_over_the_rate_alone(pharmacy):
    pharmacy(activation=[placebo(1), placebo(2), made("nothing", leave)])
    one = search(treat_recipes.slow(), Cause.ACTIVATION)
    found = one.run()
    assert any("placebo" in name and "learning rate" in name for name in tried(one))
    assert [part.causes for part in found.remedy.each] == [(Cause.LEARNING_RATE,)]


def test_a_part_that_does_nothing_is_left_out(pharmacy):
    pharmacy(input_scale=[standardised_input], depth=[made("nothing", leave, Cause.DEPTH)])
    both = search(treat_recipes.unscaled(), Cause.INPUT_SCALE, Cause.DEPTH)
    assert both.run().remedy.name == "inputs standardised"
    whole = search(treat_recipes.unscaled())
    whole.race.begin()
    parts = [made("nothing", leave, Cause.DEPTH), both.candidates.of(Cause.INPUT_SCALE)[0], placebo()]
    whole._remember(whole.race.rung([combined(parts)], 1.0, 1))
    whole._pare()
    assert {entry.name for entry in whole.race.rungs[-1].entries} == {"nothing", "nothing, inputs standardised"}
    assert whole._choose().name == "nothing, inputs standardised"


def test_without_a_cause_all_is_tried_and_the_right_one_found(pharmacy):
    pharmacy(input_scale=[standardised_input], activation=[placebo()], depth=[made("nothing", leave, Cause.DEPTH)])
    one = search(treat_recipes.unscaled())
    assert one.run().remedy.name == "inputs standardised"
    assert {"nothing", "inputs standardised"} <= tried(one)
    assert any(name.startswith("placebo 1, ") for name in tried(one))  # with the start that it asks for


def test_nothing_is_found_where_nothing_helps(pharmacy):
    pharmacy(depth=[made("nothing", leave, Cause.DEPTH), made("broken", raising, Cause.DEPTH)])
    one = search(treat_recipes.unscaled(), Cause.DEPTH, keep=["optimizer", "data"])
    found = one.run()
    assert found.remedy is None
    assert {"nothing", "broken"} <= tried(one)
    assert found.leader is None or found.leader.name != "broken"


def test_nothing_is_run_twice(pharmacy):
    pharmacy(activation=[placebo()], input_scale=[standardised_input])
    one = search(treat_recipes.unscaled(), Cause.ACTIVATION, Cause.INPUT_SCALE)
    one.run()
    keys = [task.key for task, _ in one.laboratory.finished]
    assert len(keys) == len(set(keys))
    assert all(len(task.remedy.each) <= LARGEST for task, _ in one.laboratory.finished if task.remedy)


def test_what_the_deadline_left_out_is_not_looked_at(pharmacy):
    one = search(treat_recipes.slow(), Cause.LEARNING_RATE)
    one.laboratory.deadline = -math.inf
    found = one.run()
    assert (found.remedy, found.rungs, found.plain, found.tuned, found.leader) == (None, (), None, None, None)


# --- which of several, where it is known what each gives


def searching(scores, *aims):
    def table(task):
        score = scores.get((task.name, task.seed), scores.get(task.name, 0.0))
        return gave(score) if isinstance(score, float) else score

    return search(treat_recipes.sound(), *aims, laboratory=told(table))


def raced(scores, remedies, *aims):
    one = searching({"as given": 0.0, **scores}, *aims)
    one.race.begin()
    one._remember(one.race.rung(remedies, 1.0, len(remedies)))
    return one


A, B, C = remedy("a"), remedy("b", Cause.DEPTH), remedy("c", Cause.CLIPPING)


@pytest.mark.parametrize("order", [(A, A.then(B)), (A.then(B), A)])
def test_the_smaller_of_two_that_are_alike(order):
    assert raced({"a": 0.90, "a, b": 0.92}, order)._choose() is A


def test_a_larger_one_that_is_better_wins():
    assert raced({"a": 0.70, "a, b": 0.92}, (A, A.then(B)))._choose().name == "a, b"


def test_among_equals_the_one_that_addresses_the_cause():
    assert raced({"a": 0.90, "b": 0.91}, (A, B), Cause.ACTIVATION)._choose() is A
    assert raced({"a": 0.91, "b": 0.90}, (A, B), Cause.DEPTH)._choose() is B
    assert raced({"a": 0.90, "b": 0.91}, (A, B))._choose() is B


def test_luck_on_one_seed_does_not_win():
    lucky = {("a", 0): 0.95, ("a", 1): 0.1, ("a", 2): 0.1, "b": 0.94}
    assert raced(lucky, (A, B))._choose() is B


def test_what_gains_next_to_nothing_is_no_finalist():
    assert raced({"a": 0.0005}, (A,))._choose() is None
    assert raced({"a": -0.5, "b": -0.1}, (A, B))._choose() is None


def test_the_leader_is_of_those_that_came_furthest():
    one = searching({"as given": 0.1, "a": 0.9, "b": 0.5})
    one.race.begin()
    assert one.found().leader is None
    one.race.rung([A], 0.6, 1)
    assert one.found().leader.name == "a"
    one.race.rung([B], 1.0, 1)
    assert one.found().leader.name == "b"
    assert one.found().remedy is None


def test_a_rate_that_was_lost_is_not_run_again(pharmacy):
    scores = {"as given": 0.0, "a": 0.5, "a, learning rate x 0.33": 0.4, "a, learning rate x 3": lost()}
    one = raced(scores, (A,))
    for _ in "ab":
        one._run_near(A)
    assert one._ran == {"as given", "a", "a, learning rate x 0.33", "a, learning rate x 3"}
    assert [len(rung.entries) for rung in one.race.rungs] == [1, 1, 2]


def test_a_rate_has_no_better_name(pharmacy):
    """What is called otherwise and does what a rate does is as good as the rate, and no better."""
    pharmacy(clipping=[faster(9600.0, Cause.CLIPPING)])
    found = search(treat_recipes.slow(), Cause.CLIPPING).run()
    assert len(found.remedy.each) == 1
    assert found.tuned.score == pytest.approx(found.leader.score, abs=0.05)


class TestThroughTime:
    """What carries a state is tried under ordinary trainings, at full length, and no more of it than it takes."""

    ADAMS = ("Adam at 0.01, clipped at norm 1", "Adam at 0.003, clipped at norm 1")

    def raced(self, pharmacy, scores):
        cells = [remedy(name, Cause.RECURRENCE) for name in ("GRU", "LSTM", "third")]
        pharmacy(recurrence=cells)
        one = searching(scores, Cause.RECURRENCE)
        one.through_time, one.candidates.largest = True, LARGEST_THROUGH_TIME
        return one, one.run()

    def scores(self, best):
        names = [f"{cell}{training}" for cell in ("", "GRU, ", "LSTM, ", "third, ") for training in self.ADAMS]
        return {"as given": 0.0, **dict.fromkeys(names, 0.0)} | best

    def titled(self, one, title):
        return [entry.name for rung in one.race.rungs if rung.title == title for entry in rung.entries]

    def test_the_trainings_alone_run_beside_the_first_two(self, pharmacy):
        best = f"LSTM, {self.ADAMS[0]}"
        one, found = self.raced(pharmacy, self.scores({best: 0.99}))
        assert found.remedy.name == best
        expected = [f"{cell}{training}" for cell in ("", "GRU, ", "LSTM, ") for training in self.ADAMS]
        assert self.titled(one, "through time") == expected
        assert self.titled(one, "first choice") == []
        assert all(rung.steps == STEPS for rung in one.race.rungs if rung.title == "through time")

    def test_the_others_follow_where_these_leave_something(self, pharmacy):
        best = f"third, {self.ADAMS[1]}"
        one, found = self.raced(pharmacy, self.scores({best: 0.99, f"GRU, {self.ADAMS[0]}": 0.4}))
        assert found.remedy.name == best
        assert best in self.titled(one, "through time")

    def test_where_nothing_learns_the_usual_race_is_run(self, pharmacy):
        one, found = self.raced(pharmacy, self.scores({}))
        assert found.remedy is None
        assert self.titled(one, "first choice")

    def test_what_does_as_well_with_less_is_found(self, pharmacy):
        """The training alone is as good: it has fewer parts, and wins."""
        _, found = self.raced(pharmacy, self.scores({f"GRU, {self.ADAMS[0]}": 0.99, self.ADAMS[0]: 0.98}))
        assert found.remedy.name == self.ADAMS[0]
