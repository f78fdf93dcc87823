"""Sigmoid and tanh: the gradient decays exponentially with depth, and what that has to do with saturation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import nn

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.looking import Every
from graddoctor.lab.stacks import stack
from graddoctor.lab.table import Measured, Numbers, Table

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
STARTS = {"torch": None, "Xavier": nn.init.xavier_normal_}
DRAWS = 8  # networks that are looked at for one number


def measure(seed: int, look: str, activation: str, start: str, depth: int) -> Measured:
    """Look at untrained networks; or train one, and follow its last hidden layer."""
    build = partial(stack, depth, ACTIVATIONS[activation], start=STARTS[start])
    if look == "training":
        return _trained(partial(build, width=256), seed)
    batch = digits.batch()
    probes = [gd.probe(build(), digits.loss, [batch]) for _ in range(DRAWS)]
    lost = np.array([probe.budget.total for probe in probes if probe.budget])
    units = [[one for one in probe.activations if one.kind == activation] for probe in probes]
    bent = np.array([sum(np.log10(one.slope) / 2 for one in network) for network in units])
    return {
        "decades": float(lost.mean()),
        "theory": gd.predict(digits.recipe(build, seed=seed, rate=0.1)).total,
        "saturated": float(np.mean([one.saturated for network in units for one in network])),
        "bent": float((bent / lost).mean()),
    }


def _trained(build: Callable[[], nn.Sequential], seed: int) -> Measured:
    looks = Every(20, lambda model, batch: float(model[:-1](batch[0]).mean()))  # type: ignore[index]
    gd.train(
        digits.recipe(build, seed=seed, rate=0.01, batch_size=10), observer=looks
    )  # small batches, as in the paper
    return {"top": looks.readings, "end": looks.readings[-1]}


def _larger(effect: Callable[[Table], Numbers]) -> Callable[[Table], Numbers]:
    """Of the two activations, with torch's start, that of which the effect is larger."""
    arms = [{"look": "start", "start": "torch", "activation": activation} for activation in ACTIVATIONS]
    return lambda table: np.max([effect(table.where(**arm)) for arm in arms], axis=0)


def _unevenness(table: Table) -> Numbers:
    """Decades between what a layer costs in deep networks and in shallow ones."""
    few, more, *_, most = depths = sorted(table.each("depth"))
    shallow = table.difference("decades", {"depth": more}, {"depth": few}) / (more - few)
    deep = table.difference("decades", {"depth": most}, {"depth": depths[-2]}) / (most - depths[-2])
    return np.array(np.abs(np.log10(deep / shallow)))


def _slope(table: Table, value: str = "decades", **arm: str) -> Numbers:
    return table.slope(value, over="depth", **arm)


EXPERIMENT = Experiment(
    name="saturation",
    title="Sigmoid, tanh and saturation",
    claim="Sigmoid and tanh units saturate, and so the gradient decays exponentially with depth.",
    source="Told everywhere; looked at by Glorot & Bengio 2010, sections 3.1 and 3.2, figures 2 and 3",
    expected="Theory: a layer of n units with torch's weights, of variance 1/(3n), costs 0.85 decades with sigmoid, "
    "0.24 with tanh: σ' is 1/4 at most, and the weights are small. Glorot & Bengio saw saturation come with training: "
    "in sigmoid networks the last hidden layer is soon pushed to 0.",
    scaled="64 units (256 where it is trained) and 8 x 8 digits. What must carry over: a cost a layer that is the same "
    "at every depth, and that of theory; in training, a last hidden layer that goes to 0. When it does need not.",
    lesson="The decay is exponential, but saturation does not make it: untrained units sit in the middle of their "
    "range. Sigmoid loses there, as its slope is 1/4; tanh loses because the weights are small, and hardly at all from "
    "Xavier's start. Units saturate later, where training silences what brings it only noise.",
    measure=measure,
    arms=(
        *cross(look=["start"], activation=[*ACTIVATIONS], start=[*STARTS], depth=(5, 10, 20, 30)),
        *cross(look=["training"], activation=["sigmoid"], start=["torch"], depth=[5]),
    ),
    quick=(
        *cross(look=["start"], activation=[*ACTIVATIONS], start=[*STARTS], depth=(5, 10, 20)),
        *cross(look=["training"], activation=["sigmoid"], start=["torch"], depth=[5]),
    ),
    questions=(
        Question(
            "A layer costs as much in deep networks as in shallow ones, with sigmoid and with tanh.",
            _larger(_unevenness),
            below=0.1,
            unit="decades apart",
        ),
        Question(
            "It costs what theory says.",
            _larger(lambda table: np.abs(_slope(table) / _slope(table, "theory") - 1)),
            below=0.1,
            unit="of the loss",
        ),
        Question(
            "In untrained networks, a tenth of the values are saturated.",
            _larger(lambda table: table.of("saturated", depth=10)),
            above=0.1,
            unit="of the values",
        ),
        Question(
            "That units have left the middle of their range makes half of the loss.",
            _larger(lambda table: table.of("bent", depth=10)),
            above=0.5,
            unit="of the loss",
        ),
        Question(
            "Tanh costs at least half as much from Xavier's start.",
            lambda table: (
                _slope(table, look="start", activation="tanh", start="Xavier")
                / _slope(table, look="start", activation="tanh", start="torch")
            ),
            above=0.5,
            unit="of the loss",
        ),
        Question(
            "Training saturates the last hidden sigmoid layer: its mean falls from 0.5 to 0.2 or less.",
            lambda table: table.of("end", look="training"),
            below=0.2,
            unit="mean activation",
        ),
    ),
    pictures=(
        Picture(
            "decades",
            "gradient at the first layer over the last, decades",
            x="depth",
            x_title="layers",
            by="activation",
            panel="start",
            where={"look": "start"},
            names={"start": {start: f"{start}'s start" for start in STARTS}},
            expected="theory",
        ),
        Picture("top", "mean of the last hidden layer", x_title="step", where={"look": "training"}, every=20),
    ),
    verdict="only under these conditions",
)
