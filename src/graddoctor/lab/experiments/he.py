"""He's start against Xavier's for deep rectifier networks."""

from __future__ import annotations

import math
from functools import partial

from torch import nn

import graddoctor as gd
from graddoctor.lab import curves, digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import Start, stack
from graddoctor.lab.table import Measured, Numbers, Table

STARTS: dict[str, Start] = {
    "Xavier": nn.init.xavier_normal_,
    "He": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}
MODERATE, DEEP = 10, 30  # layers


def measure(seed: int, *, start: str, depth: int, rate: float, epochs: int) -> Measured:
    """Look at a network before it is trained, and at what training makes of it."""
    build = partial(stack, depth, nn.ReLU, start=STARTS[start], width=128)
    recipe = digits.recipe(build, seed=seed, rate=rate, epochs=epochs)
    budget = digits.budget(build(), digits.batch())
    theory = gd.predict(recipe)
    outcome = gd.train(recipe)
    loss = curves.epochs(outcome)
    return {
        "decades": budget.total,
        "theory": theory.total,
        "loss": loss,
        "learnt": 1 - min(loss) / curves.GUESSING,
        "sooner": -math.log10(curves.steps_to(outcome)),
    }


def _best(value: str, start: str, depth: int) -> partial[Numbers]:
    """A value at the rate that suits the network best."""
    return partial(Table.tuned, value=value, over="rate", start=start, depth=depth)


def _lost(table: Table, start: str) -> Numbers:
    here = table.where(start=start, depth=DEEP)
    return here.of("decades", rate=here.each("rate")[0])


EXPERIMENT = Experiment(
    name="he",
    title="He's start for rectifiers",
    claim="Deep rectifier networks train from He's start, where they stall from Xavier's.",
    source="He, Zhang, Ren & Sun 2015, section 2.2, figures 2 and 3",
    expected="A network of 22 layers converges from both starts, from He's sooner (figure 2). One of 30 stalls from "
    "Xavier's and converges from He's (figure 3), if to no better end: 38.56 % top-1 error, against 33.82 % with 14 "
    "layers. Theory: ReLU halves the squared signal, so Xavier's start loses 0.15 decades of gradient a layer, and "
    "He's none.",
    scaled="Fully connected layers of 128 units on 8 x 8 digits instead of convolutions on ImageNet. What must carry "
    "over: a depth at which both converge, He's sooner, and a larger one at which Xavier's stalls and He's does not. "
    "At which depths need not: here they are 10 and 30, and the paper's 22 lies between.",
    lesson="A factor of √2 in every weight is nothing in one layer and nearly two hundred in 15. Take the start that "
    "belongs to the activation. It lets a deep network train; it does not make depth pay: in the paper, 30 layers did "
    "worse than 14.",
    measure=measure,
    arms=cross(start=[*STARTS], depth=(MODERATE, 22, DEEP), rate=(0.003, 0.01, 0.03), epochs=[24]),
    quick=cross(start=[*STARTS], depth=(MODERATE, DEEP), rate=[0.003], epochs=[24]),
    questions=(
        Question(
            f"From Xavier's start, {DEEP} layers lose three decades of gradient or more.",
            lambda table: _lost(table, "Xavier"),
            below=-3.0,
            unit="decades",
        ),
        Question(
            "From He's start, they lose less than one and a half.",
            lambda table: _lost(table, "He"),
            above=-1.5,
            unit="decades",
        ),
        Question(
            f"{MODERATE} layers converge from Xavier's start: their loss falls to less than half.",
            _best("learnt", "Xavier", MODERATE),
            above=0.5,
            unit="of the loss",
        ),
        Question(
            "From He's start they take less than two thirds of the steps for it.",
            lambda table: _best("sooner", "He", MODERATE)(table) - _best("sooner", "Xavier", MODERATE)(table),
            above=math.log10(1.5),
            unit="decades of steps",
        ),
        Question(
            f"{DEEP} layers stall from Xavier's start: their loss does not get to half.",
            _best("learnt", "Xavier", DEEP),
            below=0.5,
            unit="of the loss",
        ),
        Question(
            "From He's start they converge.",
            _best("learnt", "He", DEEP),
            above=0.5,
            unit="of the loss",
        ),
    ),
    pictures=(
        Picture(
            "loss",
            "training loss",
            x_title="epoch, at a learning rate of 0.003",
            by="start",
            panel="depth",
            where={"rate": 0.003},
            names={"depth": {depth: f"{depth} layers" for depth in (MODERATE, 22, DEEP)}},
            first=1,
        ),
        Picture(
            "decades",
            "gradient at the first layer over the last, decades",
            x="depth",
            x_title="layers",
            by="start",
            where={"rate": 0.003},
            expected="theory",
        ),
    ),
    verdict="reproduced",
)
