"""How deep a network can be trained: about six of its depth scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

ENOUGH = 0.5  # test accuracy of a network that counts as trained; guessing gives 0.1
TIMES = (1.5, 3.0, 6.0, 12.0)
ORDERED, CHAOTIC = (0.8, 0.9, 0.95), (2.0, 2.5, 3.0)
SMALL, LARGE = (0.003, 0.001), (0.01, 0.03)  # an exploding gradient wants smaller rates


def measure(seed: int, weight_std: float, times: float, rate: float) -> Measured:
    """Train a network of so many times its own depth scale for 165 steps."""

    def start(weight: Tensor) -> Tensor:
        return nn.init.normal_(weight, std=weight_std / math.sqrt(weight.shape[1]))

    scale = gd.predict(depth=10, activation="tanh", weight_std=weight_std).correlation_scale
    depth = max(round(times * scale), 2)
    outcome = gd.train(digits.recipe(partial(stack, depth, nn.Tanh, start=start), seed=seed, rate=rate, epochs=15))
    return {"accuracy": outcome.evaluation or 0.0, "depth": depth, "scale": scale}


def _limit(table: Table, weight_std: float) -> Numbers:
    """log2 of the depth at which accuracy falls below what counts as trained, between the depths that were tried."""
    here = table.where(weight_std=weight_std)
    arms = [here.where(times=times) for times in here.each("times")]
    depths = [np.log2(arm.rows[0].values["depth"]) for arm in arms]
    falling = np.minimum.accumulate([arm.tuned("accuracy", over="rate") for arm in arms], axis=0)
    return np.array([np.interp(-ENOUGH, -accuracy, depths) for accuracy in falling.T])


def _tried(table: Table, phase: Sequence[float]) -> tuple[list[float], Numbers]:
    """The weights of a phase, and log2 of the depth scale of each."""
    found = [std for std in phase if std in table.each("weight_std")]
    return found, np.log2([table.where(weight_std=std).rows[0].values["scale"] for std in found])


def _off(table: Table, phase: Sequence[float]) -> Numbers:
    """log2 of the depth that can be trained over six depth scales, of a phase on the average."""
    found, scales = _tried(table, phase)
    limits = [_limit(table, std) - scale for std, scale in zip(found, scales, strict=True)]
    return np.mean(limits, axis=0) - math.log2(6)  # type: ignore[no-any-return]


def _exponent(table: Table, phase: Sequence[float]) -> Numbers:
    """With which power of the depth scale the depth that can be trained grows."""
    found, scales = _tried(table, phase)
    return np.polyfit(scales, [_limit(table, std) for std in found], 1)[0]  # type: ignore[no-any-return]


EXPERIMENT = Experiment(
    name="trainable-depth",
    title="How deep a network can be trained",
    claim="A network can be trained if it is no deeper than about six times the depth over which signals correlate.",
    source="Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep Information Propagation, figure 5",
    expected="The depth scale follows from the variance of the weights alone, before any training, and diverges at the "
    "critical one. Over a grid of variances and depths, the border of what trains lies near six of them, on the side "
    "where gradients vanish (order) and on the side where they explode (chaos).",
    scaled="Tanh networks of 64 units on digits, SGD with momentum for 165 steps, rates tuned. That the depth grows in "
    "proportion to the scale, and six within a factor of two, must carry over; the exact factor need not, "
    "since it grows slowly with the number of steps.",
    lesson="How deep you may go is known before you train: ask graddoctor.predict. To go deeper move the start to the "
    "critical point, where the scale has no end; four times the steps buy less than twice the depth.",
    measure=measure,
    arms=cross(weight_std=ORDERED, times=TIMES, rate=LARGE) + cross(weight_std=CHAOTIC, times=TIMES, rate=SMALL),
    quick=cross(weight_std=(0.8, 0.9), times=(3.0, 6.0, 12.0), rate=(0.01,))
    + cross(weight_std=(2.0, 3.0), times=(1.5, 3.0, 6.0), rate=(0.003,)),
    questions=(
        Question(
            "Where gradients vanish, networks can be trained that are deeper than half of six scales.",
            lambda table: _off(table, ORDERED),
            above=-1,
            unit="powers of two from six",
        ),
        Question(
            "Where they vanish, none that is deeper than twice six.",
            lambda table: _off(table, ORDERED),
            below=1,
            unit="powers of two from six",
        ),
        Question(
            "Where gradients explode, networks can be trained that are deeper than half of six scales.",
            lambda table: _off(table, CHAOTIC),
            above=-1,
            unit="powers of two from six",
        ),
        Question(
            "Where they explode, none that is deeper than twice six.",
            lambda table: _off(table, CHAOTIC),
            below=1,
            unit="powers of two from six",
        ),
        Question(
            "The depth that can be trained grows as the scale does.",
            lambda table: (_exponent(table, ORDERED) + _exponent(table, CHAOTIC)) / 2,
            above=0.7,
            unit="exponent",
        ),
    ),
    pictures=tuple(
        Picture(
            "accuracy",
            f"test accuracy, where gradients {what}",
            x="times",
            x_title="depth, in depth scales",
            by="weight_std",
            where={"rate": rate},
            log_x=True,
            names={"weight_std": {std: f"σ_w = {std:g}" for std in phase}},
        )
        for what, phase, rate in (("vanish", ORDERED, LARGE[0]), ("explode", CHAOTIC, SMALL[0]))
    ),
    verdict="reproduced",
)
