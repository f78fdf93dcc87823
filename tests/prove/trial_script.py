"""A script whose trials run in other processes: one of them hangs, and it is interrupted."""

import os
import subprocess
import sys
from pathlib import Path

import trial_recipes

import train_recipes

SCRIPT = """
import sys, time, trial_recipes as t
from graddoctor.prove.executors import executor
from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Task

given = t.setting(t.recipe(model=t.happens(lambda: (print("stuck", file=sys.stderr, flush=True), time.sleep(1000)))))
with TrialStore(sys.argv[1], t.recipe()) as store, executor(2, setting=given) as pool:
    laboratory = Laboratory(given, pool, store, lambda *told: print(*told, flush=True))
    try:
        laboratory.run([Task(None, number) for number in (1, t.BAD, 3, 4)])
        laboratory.run([Task(None, 5)])
    except KeyboardInterrupt:
        print("interrupted", len(laboratory.finished), flush=True)
print("over", flush=True)
"""  # no guard around it: workers must not run it again


def start(script, *arguments):
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(m.__file__).parent) for m in (train_recipes, trial_recipes)),
    }
    return subprocess.Popen(
        [sys.executable, script, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
