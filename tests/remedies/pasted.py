"""Train with what a remedy's source says where graddoctor cannot be imported, and compare with the treated recipe."""

import atexit
import functools
import os
import struct
import subprocess
import sys
from pathlib import Path

import cloudpickle
import torch

from graddoctor.build import takes
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.source import write_source
from graddoctor.train import train

_LOOP = Path(__file__).with_name("plain_loop.py")


def assert_same_when_pasted(recipe, remedy, steps=None):
    """Assert that the treated recipe, and a plain loop around the source of the remedy, give bit-identical weights."""
    treated = train(remedy(recipe), steps=steps)
    source = write_source(recipe, remedy.each if isinstance(remedy, Remedy) else remedy)
    losses, state = train_pasted(recipe, source, steps)
    assert losses == treated.losses.tolist(), f"losses differ; the source is\n{source}"
    expected = treated.model.state_dict()
    assert list(state) == list(expected)
    different = [name for name, value in expected.items() if not _same(value, state[name])]
    assert not different, f"{different} differ; the source is\n{source}"


def train_pasted(recipe, source, steps=None):
    """Train a recipe with a pasted module in a process that refuses to import graddoctor; its losses and weights."""
    parts = {
        "build": recipe.model,
        "seeded_build": takes(recipe.model, "seed"),
        "loss": recipe.loss,
        "batches": recipe.batches,
        "optimizer": recipe.optimizer,
        "scheduler": recipe.scheduler,
        "clip": recipe.clip,
        "epochs": recipe.epochs,
        "every": recipe.scheduler_every,
        "seed": recipe.seed,
    }
    if type(recipe.model).__name__ == "_Copies":  # graddoctor's own: the loop copies the network itself
        parts["build"] = recipe.model()
    _by_value()
    failed, losses, state = _ask((parts, source, steps))
    assert not failed, f"{failed}\nThe source is\n{source}"
    return losses, state


def _by_value():
    """Tests and their helpers cannot be imported there: what they define travels by value."""
    here = Path(__file__).resolve().parents[1]
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and here in Path(file).parents and module.__name__ not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)


def _ask(job):
    """Hand a job to the process; it is started once."""
    process = _process()
    data = cloudpickle.dumps(job)
    process.stdin.write(struct.pack("!Q", len(data)) + data)
    process.stdin.flush()
    head = process.stdout.read(8)
    assert len(head) == 8, "the process that trains pasted code has died"
    return cloudpickle.loads(process.stdout.read(struct.unpack("!Q", head)[0]))


@functools.cache
def _process():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(_LOOP)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    atexit.register(process.kill)
    return process


def _same(one, other):
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(123.0), other.nan_to_num(123.0))
