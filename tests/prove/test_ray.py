"""Ray gives the same numbers and ends when it is told to: one file, so that no two clusters run at a time."""

import signal

import pytest
import trial_recipes
from trial_recipes import BAD, NUMBERS, TASKS, happens, plain, recipe, run, setting
from trial_script import SCRIPT, start

import graddoctor as gd
from graddoctor import lab
from graddoctor.errors import TrialsError
from graddoctor.prove.executors import RayTasks, Serial, executor
from graddoctor.prove.laboratory import Laboratory
from lab_toys import toy
from treat_recipes import unscaled

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")


def test_a_cluster_that_is_not_there_is_one_clear_error():
    for address in ("auto", "127.0.0.1:1"):
        with pytest.raises(TrialsError, match=f"no Ray cluster can be reached at '{address}' .*ray start --head"):
            executor(ray=address, setting=setting())


def test_ray_gives_the_same_bits_and_is_shut_down():
    expected = [repr(plain(result)) for result in run(Serial(setting()), TASKS)]
    given = setting(recipe(model=happens(trial_recipes.killed)))
    try:
        with executor(ray=True, setting=setting()) as pool:
            assert isinstance(pool, RayTasks)
            results = Laboratory(setting(), pool).run(TASKS)
            assert [repr(plain(result)) for result in results] == expected
            with executor(2, ray="auto", setting=given) as other:  # the one that runs is used, and left alone
                assert other.slots == min(2, pool.slots)
                lost = run(other, NUMBERS)
            assert [result.ended for result in lost] == ["complete", "complete", "died", "complete"]
            hung = RayTasks(setting(recipe(model=happens(trial_recipes.sleep_on)), limit=0.5), True)
            assert run(hung, [NUMBERS[BAD]])[0].ended == "hung"
            assert ray.is_initialized()
        assert not ray.is_initialized()
    finally:
        ray.shutdown()


def test_a_script_on_ray_is_interrupted(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("executor(2,", "executor(2, ray=True,"))
    with start(script, tmp_path / "trials.sqlite") as process:
        while not process.stdout.readline().startswith("trials 3 4"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-2:] == ["interrupted 3", "over"]


def test_a_cure_found_on_ray_is_the_same():
    here = gd.fix(unscaled())
    there = gd.fix(unscaled(), checkup=here.checkup, workers=2, ray=True)
    assert not ray.is_initialized()
    digests = [[(task.key, result.digest) for task, result in cure.trials] for cure in (here, there)]
    assert digests[0] == digests[1]
    assert [remedy.name for remedy in there.remedies] == [remedy.name for remedy in here.remedies]


def test_the_lab_on_ray_gives_the_same_numbers():
    here = lab.run(toy(), workers=0)
    try:
        there = lab.run(toy(), ray=True)
        assert not ray.is_initialized()
    finally:
        ray.shutdown()
    assert there.experiments[0].answers == here.experiments[0].answers
