"""The key of a task is the same for the same training, in any process, and another for any other."""

import subprocess
import sys

import torch
import trial_recipes
from torch import nn

from graddoctor.prove.task import Result, Task
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


def swapped(model, **arguments):
    return model


def remedy(**arguments):
    return Remedy.written("swap", (Cause.ACTIVATION,), [Edit("model", swapped, arguments)])


def tasks():
    return [
        Task(None),
        Task(None, 1),
        Task(None, 0, 5),
        Task(None, sweep=True),
        Task(learning_rate(3.0)),
        Task(remedy(to=torch.tanh, names=("0", "2"), stds={"0": 0.1})),
        Task(remedy(to=torch.tanh, names=("0", "2"), stds={"0": 0.2})),
        Task(remedy(to=torch.tanh, names=["0", "2"], stds={"0": 0.1})),
        Task(remedy(to=torch.relu, names=("0", "2"), stds={"0": 0.1})),
        Task(remedy(to=nn.functional.gelu)),
        Task(remedy(to=nn.GELU)),
        Task(remedy(to=nn.init.xavier_uniform_)),
        Task(Remedy.written("swap", (Cause.ACTIVATION,), [Edit("model", trial_recipes.doubled, {})])),
        Task(Remedy.written("longer", (Cause.SCHEDULE,), [Edit("epochs", arguments={"epochs": 4})])),
    ]


def test_other_trainings_have_other_keys():
    assert len({task.key for task in tasks()}) == len(tasks())
    assert [task.key for task in tasks()] == [task.key for task in tasks()]


def test_keys_are_the_same_in_another_process():
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_task as t; print(*(task.key for task in t.tasks()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [task.key for task in tasks()]


def test_what_is_lost_and_what_is_final():
    assert not Result(loss=0.1).lost
    assert Result().lost
    assert Result(loss=0.1, failed="ValueError: no").lost
    assert [Result(loss=0.1, ended=how).lost for how in ("complete", "deadline", "stopped")] == [False] * 3
    assert [Result(loss=0.1, ended=how).lost for how in ("non-finite", "failed", "hung", "died")] == [True] * 4
    assert [Result(ended=how).final for how in ("complete", "failed", "non-finite")] == [True] * 3
    assert not any(Result(ended=how).final for how in ("hung", "died", "deadline"))
