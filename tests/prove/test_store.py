"""The file of finished trials: exact, of one recipe, one clear error for what is wrong with it, whole after a kill."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import train_recipes
from graddoctor.errors import TrialsError
from graddoctor.prove.fingerprint import difference, fingerprint
from graddoctor.prove.store import TrialStore, _decoded, _encoded
from graddoctor.prove.task import Result, Task
from graddoctor.recording import Recording
from graddoctor.remedies.optimizer import learning_rate

RESULT = Result(
    0.3, 0.1 + 0.2, math.nan, 12, 1 / 3, 58, "complete", "ValueError: 1", "abc", None, (0.1, math.inf, math.nan)
)
TASKS = [Task(None), Task(None, 3), Task(None, 3, 64), Task(None, 3, 64, sweep=True), Task(learning_rate(3.0), 3, 64)]


def recipe(**changes):
    return train_recipes.recipe(**changes)


def same(one, other):
    return repr(one) == repr(other) and repr(one.curve) == repr(other.curve)  # nan is equal to nan here


def started(path):
    with TrialStore(path, recipe()) as store:
        store.put(TASKS[0], RESULT)


def test_memory_only():
    with TrialStore() as store:
        assert store.get(TASKS[0]) is None
        store.put(TASKS[0], RESULT)
        assert store.get(Task(None)) is RESULT


def test_a_file_is_gone_on_with(tmp_path):
    path = tmp_path / "trials.sqlite"
    with TrialStore(path, recipe()) as store:
        for number, task in enumerate(TASKS):
            store.put(task, replace(RESULT, steps=number))
    with TrialStore(str(path), recipe()) as store:
        assert len(store) == len(TASKS)
        for number, task in enumerate(TASKS):
            assert same(store.get(task), replace(RESULT, steps=number))
        assert store.get(Task(None, 4)) is None
        store.put(TASKS[0], replace(RESULT, steps=99))
    assert TrialStore(path, recipe()).get(TASKS[0]).steps == 99


NUMBERS = st.floats()


@given(
    st.builds(
        Result, progress=NUMBERS, loss=NUMBERS, metric=st.none() | NUMBERS, steps=st.integers(0), seconds=NUMBERS,
        failed=st.text(), ended=st.sampled_from(["complete", "nan"]), best=st.none() | NUMBERS,
        curve=st.lists(NUMBERS, max_size=4).map(tuple),
    )
)  # fmt: skip
def test_json_keeps_every_bit(result):
    text = _encoded(result)
    assert same(_decoded(text), result)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_time_or_memory_decided_is_not_written(tmp_path):
    path = tmp_path / "trials.sqlite"
    cut = [replace(RESULT, ended=ended) for ended in ("hung", "deadline", "died")]
    cut += [replace(RESULT, ended="failed", failed=f"{kind}: no room") for kind in ("MemoryError", "OutOfMemoryError")]
    with TrialStore(path, recipe()) as store:
        for number, result in enumerate(cut):
            store.put(Task(None, number), result)
            assert store.get(Task(None, number)) is result
    assert len(TrialStore(path, recipe())) == 0


# --- another recipe


def other_net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def reseeded_net():
    torch.manual_seed(3)
    return train_recipes.net()


def shifted_pairs():
    return [(x + 1, y) for x, y in train_recipes.pairs()]


CHANGES = {
    "epochs: expected 2, got 3": {"epochs": 3},
    "modules: expected 1: Tanh, got 1: ReLU": {"model": other_net},
    "seed: expected 0, got 5 (initial weights, first loss differ too)": {"seed": 5},
    "initial weights: expected": {"model": reseeded_net},
    "first batch: expected": {"batches": shifted_pairs},
    "first loss: expected": {"loss": lambda model, batch: 2 * train_recipes.loss(model, batch)},
    "optimizer: expected group 0: lr 0.1, got group 0: lr 0.2": {"optimizer": lambda m: train_recipes.sgd(m, 0.2)},
    "optimizer: expected SGD, got Adam": {"optimizer": lambda m: torch.optim.Adam(m.parameters())},
    "scheduler: expected none every batch, got StepLR every batch": {
        "scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3)
    },
    "clip: expected none, got present": {"clip": lambda parameters: None},
    "evaluate: expected none, got present": {"evaluate": lambda model: 1.0},
    "accumulate: expected 1, got 2": {"accumulate": 2},
    "precision: expected None, got torch.bfloat16": {"precision": torch.bfloat16},
}


@pytest.mark.parametrize("said", CHANGES)
def test_the_file_of_another_recipe_is_refused_with_what_differs(said, tmp_path):
    path = tmp_path / "trials.sqlite"
    started(path)
    with pytest.raises(TrialsError, match="holds trials of another recipe") as caught:
        TrialStore(path, recipe(**CHANGES[said]))
    assert said in str(caught.value)
    TrialStore(path, recipe()).close()


def test_other_threads_are_other_trials(tmp_path):
    started(tmp_path / "trials.sqlite")
    with pytest.raises(TrialsError, match="threads: expected 1, got 2"):
        TrialStore(tmp_path / "trials.sqlite", recipe(), threads=2)


def test_a_fingerprint_is_the_same_in_another_process():
    code = "import json, train_recipes as t; from graddoctor.prove.fingerprint import fingerprint as f; "
    code += "print(json.dumps(f(t.recipe(batches=t.shuffled))))"
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    assert difference(json.loads(told), fingerprint(recipe(batches=train_recipes.shuffled))) == ""


def test_a_recipe_that_cannot_be_fingerprinted_in_full_still_is_itself(tmp_path):
    def boom(*_):
        raise RuntimeError("no")

    odd = recipe(loss=boom, scheduler=boom)
    assert fingerprint(odd)["first loss"] == "raises RuntimeError"
    assert fingerprint(odd) == fingerprint(odd)


def test_what_differs_in_length_is_told():
    assert difference({"a": ["x"]}, {"a": ["x", "y"], "b": 1}) == "a: expected nothing more, got y (b differ too)"
    assert difference({"a": 1}, {"a": 1}) == ""


# --- a file that cannot be used


def write(path, content):
    path.write_bytes(content)


def test_damage_is_one_clear_error(tmp_path):
    path = tmp_path / "trials.sqlite"
    with TrialStore(path, recipe()) as store:
        for number in range(200):
            store.put(Task(None, number), RESULT)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4096] + b"\xff" * 4096 + whole[8192:], whole[:40]):
        write(path, damaged)
        with pytest.raises(TrialsError, match=r"trials\.sqlite .*(damaged|cannot be used).*choose another file"):
            TrialStore(path, recipe())


def test_a_row_that_is_no_result_is_damage(tmp_path):
    path = tmp_path / "trials.sqlite"
    started(path)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO trials (key, result) VALUES ('a', '{\"loss\": 1')")
    connection.commit()
    connection.close()
    with pytest.raises(TrialsError, match="cannot be read"):
        TrialStore(path, recipe())


def test_files_of_another_kind(tmp_path):
    write(tmp_path / "notes.txt", b"dear diary, today")
    with pytest.raises(TrialsError, match=r"holds no trials: it begins with b'dear dia'"):
        TrialStore(tmp_path / "notes.txt", recipe())
    connection = sqlite3.connect(tmp_path / "mine.sqlite")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(TrialsError, match="another kind"):
        TrialStore(tmp_path / "mine.sqlite", recipe())
    with Recording.create(tmp_path / "run.sqlite"):
        pass
    with pytest.raises(TrialsError, match="another kind"):
        TrialStore(tmp_path / "run.sqlite", recipe())


def test_paths_that_cannot_be(tmp_path):
    with pytest.raises(TrialsError, match="not a folder; make it first"):
        TrialStore(tmp_path / "nowhere" / "trials.sqlite", recipe())
    with pytest.raises(TrialsError, match="is a folder"):
        TrialStore(tmp_path, recipe())


def test_an_empty_file_is_a_new_one(tmp_path):
    write(tmp_path / "trials.sqlite", b"")
    with TrialStore(tmp_path / "trials.sqlite", recipe()) as store:
        store.put(TASKS[0], RESULT)


def test_a_file_from_the_future_is_refused(tmp_path):
    path = tmp_path / "trials.sqlite"
    started(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(TrialsError, match="newer graddoctor \\(format 7"):
        TrialStore(path, recipe())


def test_a_write_that_fails_says_so(tmp_path):
    path = tmp_path / "trials.sqlite"
    with TrialStore(path, recipe()) as store:
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE trials")
        connection.commit()
        connection.close()
        with pytest.raises(TrialsError, match=r"cannot be written \(no such table"):
            store.put(TASKS[0], RESULT)


# --- a kill

WRITER = """
import sys, train_recipes as t
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Result, Task
store = TrialStore(sys.argv[1], t.recipe())
for number in range(10**9):
    store.put(Task(None, number), Result(progress=number / 3, failed="x" * 3000))
    print(number, flush=True)
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(train_recipes.__file__).parent)}


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_a_killed_writer_leaves_all_that_it_told_of(seconds, tmp_path):
    path = tmp_path / "trials.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], env=environment(), stdout=subprocess.PIPE, text=True
    ) as writer:
        first = writer.stdout.readline()
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        told = [first, *writer.stdout.readlines()]
    last = int([line for line in told if line.endswith("\n")][-1])
    assert last > 1
    with TrialStore(path, recipe()) as store:
        assert len(store) >= last + 1
        assert all(store.get(Task(None, number)).progress == number / 3 for number in range(last + 1))
        store.put(Task(None, -1), RESULT)
