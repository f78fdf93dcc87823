"""Executors give the same numbers, lose only what is lost, and end when they are told to."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import trial_recipes
from trial_recipes import BAD, NUMBERS, TASKS, happens, plain, recipe, run, setting
from trial_script import SCRIPT, start

import train_recipes
from graddoctor.errors import MissingExtraError, TrialsError
from graddoctor.prove import processes
from graddoctor.prove.executors import Processes, Serial, executor
from graddoctor.prove.task import Task
from graddoctor.prove.travel import check_travels, packed, unpacked
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


@pytest.fixture(scope="module")
def expected():
    return [repr(plain(result)) for result in run(Serial(setting()), TASKS)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_number_of_workers_gives_the_same_bits(workers, expected):
    pool = executor(workers, setting=setting())
    assert pool.slots == max(1, workers)
    results = run(pool, TASKS)
    assert [repr(plain(result)) for result in results] == expected
    assert len({result.digest for result in results}) == len(TASKS)
    assert all(result.digest for result in results)


def test_seeds_of_a_builder_and_arrays_travel_too():
    given = setting(recipe(model=trial_recipes.self_seeded, batches=trial_recipes.from_numpy))
    here, there = (run(pool, TASKS[:4]) for pool in (Serial(given), Processes(given, 1)))
    assert [plain(one) for one in here] == [plain(other) for other in there]


def test_threads_and_settings_of_torch_travel():
    def threads(_):
        return float(torch.get_num_threads())

    def loss(model, batch):
        return train_recipes.loss(model.double(), (batch[0].double(), batch[1]))

    given, before = setting(recipe(loss=loss, evaluate=threads), threads=2), torch.get_num_threads()
    other = run(Serial(given), TASKS[:1])[0]
    torch.set_default_dtype(torch.float64)
    try:
        here, there = (run(pool, TASKS[:1])[0] for pool in (Serial(given), Processes(given, 1)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.digest != here.digest == there.digest
    assert here.metric == there.metric == 2.0
    assert torch.get_num_threads() == before


# --- what is lost

EVENTS = {
    2: (trial_recipes.sleep_on, "hung", "no end after 1 seconds"),
    3: (trial_recipes.killed, "died", "the worker process was killed by SIGKILL (out of memory?)"),
    5: (trial_recipes.sleep_deaf, "hung", "no end after 1 seconds"),
    6: (partial(os._exit, 3), "died", "the worker process ended with exit code 3"),
    7: (trial_recipes.raising, "failed", "ValueError: this seed"),
    8: (partial(print, "hello"), "complete", ""),
}


@pytest.mark.slow
def test_only_the_tasks_that_hang_or_die_are_lost(monkeypatch, capfd):
    monkeypatch.setattr(processes, "_PATIENCE", 0.5)
    events = {number: what for number, (what, _, _) in EVENTS.items()}
    given, tasks = setting(recipe(model=trial_recipes.all_of(events)), limit=1.0), [Task(None, n) for n in range(10)]
    results, sound = run(Processes(given, 2), tasks), run(Serial(setting()), tasks)
    for number, (result, same) in enumerate(zip(results, sound, strict=True)):
        _, ended, failed = EVENTS.get(number, (None, "complete", ""))
        assert (result.ended, result.failed) == (ended, failed)
        assert result.lost == bool(failed)
        assert result.final == (ended in {"complete", "failed"})
        assert ended != "complete" or result.digest == same.digest
    told = capfd.readouterr()
    assert told.out == ""  # what a worker prints must not get into a report
    assert "hello" in told.err


def test_loaders_with_workers_of_their_own_work_in_a_worker():
    given = setting(recipe(batches=trial_recipes.loaded_by_others))
    assert run(Processes(given, 1), TASKS[:1])[0].ended == "complete"


class Stubborn:
    def __reduce__(self):
        return (int, ("no number",))


def test_a_worker_that_cannot_load_the_recipe_says_so():
    given = setting()
    with Processes(replace(given, limit=Stubborn()), 1) as pool:
        pool.setting = given
        with pytest.raises(TrialsError, match="a worker process cannot load the recipe \\(ValueError: invalid literal"):
            pool.submit(TASKS[0]).result(60)


def test_abandoned_work_is_cancelled_and_the_pool_goes_on():
    given = setting(recipe(model=happens(trial_recipes.sleep_on)), limit=1000.0)
    with Processes(given, 1) as pool:
        stuck, waiting = pool.submit(NUMBERS[BAD]), pool.submit(NUMBERS[0])
        wait_for(stuck.running)
        pool.abandon()
        assert waiting.cancelled()
        with pytest.raises(processes.CancelledError):
            stuck.result(30)
        assert pool.submit(NUMBERS[0]).result(60).ended == "complete"
        assert pool.submit(NUMBERS[BAD], 0.2).result(60).ended == "hung"  # within less than the limit
        assert pool.submit(Task(locked())).result(60).digest == run(Serial(setting()), TASKS[:1])[0].digest
    assert not [thread for thread in threading.enumerate() if thread.name == "graddoctor worker"]


def locked():
    """A remedy that cannot travel: it is tried in this process."""
    lock = threading.Lock()
    stuck = Remedy("stuck", (Cause.LOSS,), lambda r: r.with_(name=str(lock.locked())))
    with pytest.raises(TypeError):
        packed(stuck)
    return stuck


# --- what cannot travel


def test_a_recipe_that_cannot_travel_is_trained_here_with_a_warning():
    lock = threading.Lock()
    stuck = setting(recipe(evaluate=lambda model: float(lock.locked())))
    with pytest.raises(
        TrialsError, match=r"cannot be sent to other processes \(TypeError: cannot pickle '_thread.lock'"
    ):
        check_travels(stuck)
    with pytest.warns(UserWarning, match="it is trained in this process"):
        pool = executor(2, setting=stuck)
    assert type(pool) is Serial
    assert run(pool, TASKS[:1])[0].metric == 0.0
    check_travels(setting())


def test_modules_that_only_this_process_knows_travel_by_value(tmp_path):
    (tmp_path / "hidden_helper.py").write_text("def scale(x):\n    return 2 * x\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import hidden_helper  # noqa: PLC0415
    finally:
        sys.path.remove(str(tmp_path))
    given = setting(recipe(loss=lambda model, batch: hidden_helper.scale(train_recipes.loss(model, batch))))
    assert run(Processes(given, 1), TASKS[:1])[0].digest == run(Serial(given), TASKS[:1])[0].digest
    code = "import sys; from graddoctor.prove.travel import unpacked; print(unpacked(sys.stdin.buffer.read())(4))"
    here = packed(hidden_helper.scale), packed(trial_recipes.doubled, far=True)
    told = subprocess.run(
        [sys.executable, "-c", code], input=here[0], capture_output=True, check=True, cwd=tmp_path.parent
    )
    assert told.stdout.split() == [b"8"]
    assert unpacked(here[1]) is not trial_recipes.doubled


# --- ends


def members(group):
    """Processes of a group that are alive."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                alive.append(stat.parent.name)
    return alive


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def stuck(tmp_path):
    """A script of which one worker hangs and the other has done all the rest."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with start(script, tmp_path / "trials.sqlite") as process:
        assert process.stderr.readline() == "stuck\n"
        while not process.stdout.readline().startswith("trials 3 4"):
            assert process.poll() is None
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_ctrl_c_ends_the_workers_and_comes_through(stuck):
    process = stuck
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert out.splitlines()[-2:] == ["interrupted 3", "over"]
    assert process.returncode == 0
    assert "Traceback" not in err
    wait_for(lambda: not members(process.pid))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_die_with_a_process_that_is_killed(stuck):
    process = stuck
    assert len(members(process.pid)) >= 3
    process.kill()
    wait_for(lambda: not members(process.pid))


def test_without_ray_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "graddoctor\[ray\]"'):
        executor(ray=True, setting=setting())
