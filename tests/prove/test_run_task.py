"""A task becomes a result, whatever the user's code does meanwhile."""

import math
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import train_recipes
from graddoctor.prove.fresh import fresh
from graddoctor.prove.run_task import CURVE, run_task
from graddoctor.prove.sweep import sweep
from graddoctor.prove.task import Setting, Task
from graddoctor.prove.yardstick import measure, smoothed, window_of
from graddoctor.remedies.data import standardised_targets
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import train
from train_recipes import recipe


def half(model):
    return 0.5


def setting(given=None, **changes):
    given = given or recipe(evaluate=half)
    return Setting(given, measure(recipe()), **changes)


def failing(kind, *said):
    def fails(*_):
        raise kind(*said)

    return fails


def test_a_result_is_what_training_gave():
    given = recipe(batches=train_recipes.shuffled, evaluate=half, epochs=20)
    result = run_task(setting(given), Task(learning_rate(3.0), 2))
    outcome = train(learning_rate(3.0)(fresh(given, 2)))
    loss = smoothed(outcome.losses, window_of(6, 120))
    assert result.loss == loss
    assert result.progress == measure(recipe()).progress(loss) > 0
    assert (result.metric, result.steps, result.ended, result.failed) == (0.5, 120, "complete", "")
    assert result.parameters == 58
    assert result.seconds > 0
    assert len(result.curve) == CURVE
    assert (result.curve[0], result.curve[-1]) == (outcome.losses[0], outcome.losses[-1])
    assert set(result.curve) <= set(outcome.losses)
    assert not result.lost


def test_runs_that_drew_the_same_have_the_same_digest():
    given = setting(recipe(batches=train_recipes.shuffled))
    digests = [run_task(given, task).digest for task in (Task(None), Task(None), Task(None, 1), Task(None, 0, 11))]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_steps_are_those_of_the_task_or_all_that_the_treated_recipe_asks_for():
    twice = Remedy.written("twice as long", (Cause.SCHEDULE,), [Edit("epochs", arguments={"epochs": 4})])
    given = setting()
    assert [run_task(given, Task(remedy)).steps for remedy in (None, twice)] == [12, 24]
    assert [run_task(given, Task(twice, 0, steps)).steps for steps in (5, 100)] == [5, 24]


def test_a_metric_or_none():
    assert run_task(setting(recipe()), Task(None)).metric is None
    assert math.isnan(run_task(setting(recipe(evaluate=lambda model: math.nan)), Task(None)).metric)


def test_a_metric_that_raises_costs_the_metric_alone():
    sound = run_task(setting(recipe()), Task(None))
    result = run_task(setting(recipe(evaluate=failing(ValueError, "no test data\nhere"))), Task(None))
    assert math.isnan(result.metric)
    assert result.failed == "ValueError: no test data"
    assert (result.digest, result.loss, result.ended) == (sound.digest, sound.loss, "complete")
    assert result.lost
    no_number = run_task(setting(recipe(evaluate=lambda model: "good")), Task(None))
    assert "evaluate must return a number" in no_number.failed


@pytest.mark.parametrize("kind", [ValueError, MemoryError, torch.OutOfMemoryError, SystemExit, RecursionError])
@pytest.mark.parametrize("part", ["model", "loss", "optimizer", "batches", "clip"])
def test_what_a_part_raises_is_told(part, kind):
    result = run_task(setting(recipe(**{part: failing(kind, "no\nway")})), Task(None))
    assert (result.ended, result.failed) == ("failed", f"{kind.__name__}: no")
    assert result.lost
    assert (result.progress, result.loss, result.steps) == (0.0, math.inf, 0)
    assert result.final == (kind not in {MemoryError, torch.OutOfMemoryError})


def test_a_remedy_that_does_not_fit_is_told():
    result = run_task(setting(), Task(Remedy("broken", (Cause.LOSS,), failing(AttributeError, "no head"))))
    assert (result.ended, result.failed) == ("failed", "AttributeError: no head")


def test_what_was_seen_before_it_failed_is_kept():
    def loss(model, batch):
        loss.calls += 1
        if loss.calls == 40:
            raise ValueError
        return train_recipes.loss(model, batch)

    loss.calls = 0
    result = run_task(setting(recipe(loss=loss, epochs=20)), Task(None))
    assert (result.steps, len(result.curve), result.failed) == (39, 39, "ValueError: ")
    assert result.digest
    assert result.parameters == 58


def test_ctrl_c_comes_through():
    for part in ("model", "loss", "evaluate"):
        with pytest.raises(KeyboardInterrupt):
            run_task(setting(recipe(**{part: failing(KeyboardInterrupt)})), Task(None))


def test_a_loss_that_is_lost():
    result = run_task(setting(recipe(loss=lambda m, b: train_recipes.loss(m, b) * math.nan, epochs=40)), Task(None))
    assert (result.ended, result.progress, result.loss) == ("non-finite", 0.0, math.inf)
    assert result.lost
    assert result.final


def test_the_random_state_and_threads_stay_as_they_were():
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    expected = (torch.rand(1), np.random.rand())  # noqa: NPY002
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    before = torch.get_num_threads()
    seen = []
    given = setting(recipe(clip=lambda _: seen.append(torch.get_num_threads())), threads=before + 1)
    run_task(given, Task(None, 3))
    run_task(setting(recipe(loss=failing(ValueError)), threads=before + 1), Task(None, 3))
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    assert torch.get_num_threads() == before
    assert set(seen) == {before + 1}


# --- sweeps


def test_a_sweep_is_a_task_too():
    given = setting(recipe(batches=train_recipes.shuffled))
    result = run_task(given, Task(learning_rate(3.0), 2, sweep=True))
    seen = sweep(learning_rate(3.0)(fresh(given.recipe, 2)), given.yardstick)
    assert result.best == seen.best is not None
    assert result.loss == seen.losses.min()
    assert result.steps > 20
    assert not result.lost
    assert result.digest == run_task(given, Task(learning_rate(3.0), 2, sweep=True)).digest


# --- the yardstick


def test_rescaled_targets_are_measured_by_their_own_yardstick():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = 100 * x[:, :1] + 50
    given = recipe(
        model=lambda: nn.Linear(4, 1),
        loss=lambda model, batch: functional.mse_loss(model(batch[0]), batch[1]),
        batches=list(zip(x.split(8), y.split(8), strict=True)),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1e-4),
    )
    result = run_task(Setting(given, measure(given)), Task(standardised_targets()))
    assert 0 <= result.progress < 0.1  # it hardly moves; by the yardstick of raw targets it would be almost 1


def halved(model, batch, original):
    return original(model, batch) / 2


def test_another_loss_is_measured_by_its_own_yardstick():
    other = Remedy.written("half the loss", (Cause.LOSS,), [Edit("loss", halved)])
    given = setting(recipe(epochs=10))
    plain, treated = (run_task(given, Task(remedy)) for remedy in (None, other))
    assert treated.loss < plain.loss
    assert treated.progress < plain.progress  # its steps are half as long, and its goal is half as high


# --- time


def sleeping(seconds, deaf):
    def loss(model, batch):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001
                assert deaf
        return train_recipes.loss(model, batch)

    return loss


def test_the_limit_ends_a_run_after_its_step():
    given = setting(recipe(loss=sleeping(0.02, deaf=False), epochs=1000, evaluate=half), limit=0.2)
    result = run_task(given, Task(None))
    assert result.ended == "deadline"
    assert 1 <= result.steps < 20
    assert result.metric == 0.5
    assert not result.final
    assert run_task(setting(given.recipe, limit=1000.0), Task(None), within=0.1).ended == "deadline"


def test_a_step_that_hangs_is_hung_and_the_alarm_is_put_back():
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        result = run_task(setting(recipe(loss=sleeping(1000, deaf=True)), limit=0.1), Task(None))
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (result.ended, result.failed) == ("hung", "no end after 0.1 seconds")
    assert result.lost
    assert result.parameters == 58
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_other_threads_can_run_tasks_too():
    results = []
    thread = threading.Thread(target=lambda: results.append(run_task(setting(limit=60.0), Task(None))))
    thread.start()
    thread.join()
    assert results[0].digest == run_task(setting(), Task(None)).digest
