"""A laboratory runs every task once, in order, and keeps what it knew when it is stopped."""

import itertools
import math
import random
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest
from typing_extensions import override

import train_recipes
from graddoctor.prove.laboratory import PHASE, Laboratory
from graddoctor.prove.serial import Serial, TaskExecutor
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.prove.yardstick import Yardstick
from graddoctor.remedies.optimizer import learning_rate
from train_recipes import recipe

SETTING = Setting(recipe(batches=train_recipes.shuffled), Yardstick(0.69, computed=True))
TASKS = [Task(None, number) for number in range(6)]


class Counting(Serial):
    def __init__(self, setting=SETTING):
        super().__init__(setting)
        self.ran = []
        self.abandoned = False

    @override
    def submit(self, task, within=math.inf):
        self.ran.append(task)
        return super().submit(task, within)

    @override
    def abandon(self):
        self.abandoned = True


class Shuffled(TaskExecutor):
    """Finishes what was submitted in any order, once its slots are full."""

    slots = 3

    def __init__(self, count):
        self.running, self.left = [], count
        self.most = 0

    @override
    def submit(self, task, within=math.inf):
        future = Future()
        self.running.append((future, task))
        self.left -= 1
        self.most = max(self.most, len(self.running))
        if len(self.running) == self.slots or not self.left:
            keep = 0 if not self.left else random.randrange(self.slots)  # noqa: S311
            random.shuffle(self.running)
            while len(self.running) > keep:
                done, which = self.running.pop()
                done.set_result(Result(progress=which.seed / 10, loss=0.1, steps=which.seed))
        return future


def test_results_come_in_the_order_of_the_tasks():
    laboratory = Laboratory(SETTING)
    results = laboratory.run([TASKS[3], TASKS[0], Task(None, 3), TASKS[1]])
    assert results[0] is results[2]
    assert [result.digest for result in results] == [
        Serial(SETTING).submit(TASKS[k]).result().digest for k in (3, 0, 3, 1)
    ]
    assert laboratory.finished == [(TASKS[3], results[0]), (TASKS[0], results[1]), (TASKS[1], results[3])]


@pytest.mark.parametrize("draw", range(10))
def test_the_order_of_finishing_says_nothing(draw):
    random.seed(draw)
    executor = Shuffled(len(TASKS))
    laboratory = Laboratory(SETTING, executor)
    results = laboratory.run(TASKS)
    assert [result.progress for result in results] == [task.seed / 10 for task in TASKS]
    assert [task for task, _ in laboratory.finished] == TASKS
    assert laboratory.steps_spent == sum(task.seed for task in TASKS)
    assert executor.most <= 3


def test_no_task_is_run_twice():
    executor = Counting()
    laboratory = Laboratory(SETTING, executor)
    first = laboratory.run(TASKS[:3])
    again = laboratory.run([TASKS[2], TASKS[3], Task(learning_rate(1.0), 2), TASKS[0]])
    assert again[0] is first[2]
    assert len(executor.ran) == 5
    assert len(laboratory.finished) == 5
    assert laboratory.steps_spent == 5 * 12
    assert laboratory.seconds_spent == sum(result.seconds for _, result in laboratory.finished)


def test_known_trials_come_from_the_store_and_count_as_spent(tmp_path):
    def run(tasks):
        executor = Counting()
        with TrialStore(tmp_path / "trials.sqlite", SETTING.recipe) as store:
            laboratory = Laboratory(SETTING, executor, store)
            return laboratory.run(tasks), laboratory, executor.ran

    one, _, ran = run(TASKS[:3])
    assert len(ran) == 3
    two, laboratory, ran = run([TASKS[4], *TASKS[:3]])
    assert ran == [TASKS[4]]
    assert two[1:] == one
    assert [task for task, _ in laboratory.finished] == [TASKS[4], *TASKS[:3]]
    assert laboratory.steps_spent == 4 * 12


def test_what_fails_is_a_result_among_others(tmp_path):
    def breaks(model):
        raise ValueError("broken")

    given = replace(SETTING, recipe=recipe(evaluate=breaks))
    executor = Counting(given)
    with TrialStore(tmp_path / "trials.sqlite", given.recipe) as store:
        laboratory = Laboratory(given, executor, store)
        assert [result.failed for result in laboratory.run(TASKS[:2])] == ["ValueError: broken"] * 2
        assert Laboratory(given, executor, store).run(TASKS[:1])[0].lost
    assert len(executor.ran) == 2


def test_progress_is_told():
    told = []
    Laboratory(SETTING, tell=lambda *what: told.append(what)).run([*TASKS[:2], Task(learning_rate(3.0))])
    assert {phase for phase, *_ in told} == {PHASE}
    done = [count for _, count, _, _ in told]
    assert done == sorted(done)
    assert (done[0], {total for _, _, total, _ in told}) == (0, {3})
    assert [told[0][3], told[-1][3]] == ["as given", "learning rate x 3"]


# --- too late


def test_what_is_not_begun_in_time_is_not_run():
    laboratory = Laboratory(SETTING, Counting(), deadline=time.monotonic() - 1)
    assert laboratory.late
    assert laboratory.run(TASKS) == [None] * 6
    assert (laboratory.skipped, laboratory.finished) == (6, [])
    laboratory.deadline = math.inf
    assert not laboratory.late
    assert None not in laboratory.run(TASKS[:2])
    laboratory.deadline = -math.inf
    assert laboratory.run(TASKS[:3])[:2] == [result for _, result in laboratory.finished]


def test_what_the_deadline_cuts_short_says_nothing():
    def loss(model, batch):
        time.sleep(0.02)
        return train_recipes.loss(model, batch)

    given = replace(SETTING, recipe=recipe(loss=loss, epochs=1000))
    laboratory = Laboratory(given, Counting(given), deadline=time.monotonic() + 0.3)
    assert laboratory.run(TASKS) == [None] * 6
    assert laboratory.skipped == 6
    assert len(laboratory.executor.ran) == 1
    limited = Laboratory(replace(given, limit=0.1))
    assert [result.ended for result in limited.run(TASKS[:2])] == ["deadline"] * 2  # by their own limit: an outcome


# --- stopped


def test_ctrl_c_keeps_what_had_finished(tmp_path):
    calls = itertools.count()

    def evaluate(model):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return 1.0

    given = replace(SETTING, recipe=recipe(evaluate=evaluate))
    with TrialStore(tmp_path / "trials.sqlite", given.recipe) as store:
        laboratory = Laboratory(given, Counting(given), store)
        with pytest.raises(KeyboardInterrupt):
            laboratory.run(TASKS)
        assert laboratory.executor.abandoned
        assert [task for task, _ in laboratory.finished] == TASKS[:2]
        assert len(store) == 2
    with TrialStore(tmp_path / "trials.sqlite", given.recipe) as store:
        again = Laboratory(given, Counting(given), store)
        assert None not in again.run(TASKS)
        assert again.executor.ran == TASKS[2:]
        assert [result.digest for _, result in again.finished[:2]] == [
            result.digest for _, result in laboratory.finished
        ]


def test_an_executor_that_cannot_go_on_is_heard():
    class Broken(Counting):
        @override
        def submit(self, task, within=math.inf):
            future = Future()
            future.set_exception(ConnectionError("gone"))
            return future

    broken = Broken()
    with pytest.raises(ConnectionError, match="gone"):
        Laboratory(SETTING, broken).run(TASKS)
    assert broken.abandoned
