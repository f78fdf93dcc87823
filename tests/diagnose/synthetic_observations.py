"""Observations put together by hand, sound in every respect; a test changes the one thing that it is about."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from graddoctor.diagnose.observation import Group, Observation
from graddoctor.observe.budget import Budget, Row
from graddoctor.observe.ledger import Signal
from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import (
    ActivationReading,
    InputReading,
    OutputReading,
    ParameterReading,
    TemporalReading,
)
from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe
from graddoctor.train import Outcome

STEPS = 64


def activation(name, **changes):
    sound = ActivationReading(
        name=name, module=name, kind="relu", shape=(32, 16), samples=256, dead=0.0, saturated=0.0, slope=0.5, zeros=0.5,
        input_rms=1.0, output_rms=0.7, spread=0.5, gradient=1.0, nonfinite=0,
    )  # fmt: skip
    return replace(sound, **changes)


def parameter(name, **changes):
    sound = ParameterReading(
        name=name, module=name.rpartition(".")[0], shape=(16, 16), dtype="float32", trainable=True, norm=4.0, mean=0.0,
        std=0.25, gradient=1.0, gradient_zeros=0.0, gradient_nonfinite=0, identical=0.0, update=0.01,
    )  # fmt: skip
    return replace(sound, **changes)


def tensor(role="input", **changes):
    sound = InputReading("x", role, (32, 16), "float32", mean=0.0, std=1.0, absmax=3.0, feature_std=(1, 1), nonfinite=0)
    return replace(sound, **changes)


def row(name, decades=0.0, size_decades=0.0, modules=None):
    return Row(name, "layer", (name,) if modules is None else modules, decades, size_decades, 1.0, 10**-decades)


def budget(*rows, cut=None, signal=0.0):
    return Budget(rows, math.fsum(r.decades for r in rows), cut, Signal(total=signal))


def look(step=0, **changes):
    sound = Probe(
        step=step,
        loss=1.0,
        budget=budget(row("fc1"), row("fc2"), row("out")),
        activations=(activation("act1"), activation("act2")),
        parameters=tuple(parameter(f"{name}.weight") for name in ("fc1", "fc2", "out")),
        inputs=(tensor(),),
        output=OutputReading((32, 4), "linear", "out"),
    )
    return replace(sound, **changes)


def curve(first=1.0, last=0.1, steps=STEPS):
    return np.linspace(first, last, steps)


def outcome(losses=None, *, ended="complete", evaluation=None, per_epoch=8, total=None):
    values = curve() if losses is None else np.asarray(losses, dtype=np.float64)
    return Outcome(values, total or len(values), per_epoch, evaluation, 1.0, ended, nn.Linear(1, 1))


def recipe(**changes):
    return Recipe(
        **{
            "model": lambda: nn.Linear(1, 1),
            "loss": lambda model, batch: model(batch).square().mean(),
            "batches": [torch.ones(4, 1)],
            "optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        }
        | changes
    )


def group(**changes):
    return replace(Group(lr=0.1, momentum=0.0, beta1=0.0, eps=0.0, weight_decay=0.0, decoupled=False), **changes)


def observation(*looks, **changes):
    """A sound run of 64 steps in 8 epochs, looked at before the first step and after the last."""
    parts = {
        "recipe": recipe(),
        "outcome": outcome(),
        "probes": looks or (look(), look(STEPS)),
        "yardstick": Yardstick(1.0, computed=True),
        "progress": 0.9,
        "raw_norms": np.ones(STEPS),
        "clipped_norms": np.ones(STEPS),
        "rates": np.full(STEPS, 0.1),
        "groups": (group(),),
    }
    return Observation(**(parts | changes))


def reading(name="cell", decades=0.0, steps=30, **changes):
    """A state whose gradient changes by so many decades from the last time step to the first."""
    lag = tuple(10 ** (decades * k / (steps - 1)) for k in range(steps))
    sound = TemporalReading(
        name=name, module=name, modules=(name,), kind="rnn_tanh", layer=0, reverse=False, steps=steps, source="hidden",
        loss_gradient=lag[::-1], lag_gradient=lag, decades=decades, decades_per_step=decades / (steps - 1),
        horizon_1=None, horizon_3=None,
    )  # fmt: skip
    return replace(sound, **changes)
