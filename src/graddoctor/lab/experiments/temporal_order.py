"""Which came first: what clipping does for a plain recurrent network over long lags, and what it cannot do."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import graddoctor as gd
from graddoctor.lab import sequences
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table
from graddoctor.remedies.plain.state_norms import keep_state_gradients

HIDDEN, BATCH, STRENGTH = 50, 20, 1.0
WAYS = ("SGD", "clipped", "clipped, penalty")
STARTS = {"orthogonal": "orthogonal start", "torch": "torch's own start"}


def cell(start: str, inputs: int) -> nn.RNN:
    """A tanh layer as torch starts it; or with orthogonal recurrent weights, small input weights and no biases."""
    rnn = nn.RNN(inputs, HIDDEN, batch_first=True)
    if start == "orthogonal":
        nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"))
        nn.init.normal_(rnn.get_parameter("weight_ih_l0"), std=0.1)
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            nn.init.zeros_(rnn.get_parameter(bias))
    return rnn


def measure(seed: int, *, start: str, way: str, lag: int, rate: float, steps: int) -> Measured:
    """Learn the order by SGD, and look at the gradient through time before and after."""
    parts: dict[str, Any] = {"clip": None} if way == "SGD" else {}
    plain = sequences.recipe(
        "temporal order",
        lambda inputs: cell(start, inputs),
        lag,
        seed=seed,
        rate=rate,
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=rate),
        **parts,
    ).with_(batches=lambda: sequences.Fresh(sequences.TASKS["temporal order"], lag, steps, BATCH))
    with torch.random.fork_rng():
        begins = sequences.through_time(plain, plain.model(), sequences.batch(plain))
    treated = plain.with_(
        loss=lambda model, batch: keep_state_gradients(model, batch, plain.loss, names=("cell",), strength=STRENGTH)
    )
    outcome = gd.train(treated if "penalty" in way else plain)
    ends = sequences.through_time(plain, outcome.model, sequences.batch(plain))
    return {"learnt": outcome.evaluation or 0.0, "begins": begins.decades, "ends": ends.decades}


def _learnt(table: Table, start: str, way: str) -> Numbers:
    return table.tuned("learnt", over="rate", start=start, way=way)


EXPERIMENT = Experiment(
    name="temporal-order",
    title="Clipping and long lags",
    claim="Clipping the gradient's norm is enough to train a plain recurrent network over long lags.",
    source="Told after Pascanu, Mikolov, Bengio 2013, who say less: section 4.1, the temporal order problem",
    expected="With 50 units and up to 5 million steps, plain SGD fails the more often the longer the sequence, from "
    "about 20 steps on; clipping helps, most where the weights start large; with a penalty on gradients whose norm "
    "changes from state to state, all runs succeed over 50 to 200 steps.",
    scaled="50 tanh units and batches of 20 as there, but 800 steps of SGD, the best of two rates, and a penalty of 1 "
    "instead of 4; sequences of 35 steps from orthogonal weights, of 25 from torch's own start. Who learns from which "
    "start must carry over; how far need not: with many more steps, clipping alone reaches further too. A quick look "
    "has one rate and fewer steps; over its 25 steps back, plain SGD learns as well, at a tenth of that rate.",
    lesson="Clipping saves what has a gradient to save: it allows rates at which plain SGD is thrown out of place. "
    "Where the gradient fades over the lag, it changes nothing: take another start, or a penalty that keeps its norm.",
    measure=measure,
    arms=cross(start=("orthogonal",), way=WAYS[:2], lag=(35,), rate=(0.01, 0.1), steps=(800,))
    + cross(start=("torch",), way=WAYS, lag=(25,), rate=(0.1, 0.3), steps=(800,)),
    quick=cross(start=("orthogonal",), way=WAYS[:2], lag=(25,), rate=(0.1,), steps=(350,))
    + cross(start=("torch",), way=WAYS[1:], lag=(20,), rate=(0.3,), steps=(450,)),
    seeds=10,
    quick_seeds=4,
    questions=(
        Question(
            "From orthogonal weights, plain SGD does not learn even one of the two symbols.",
            lambda table: _learnt(table, "orthogonal", "SGD"),
            below=0.5,
            unit="of what can be learnt",
            control=True,
        ),
        Question(
            "Clipping makes it learn.",
            lambda table: _learnt(table, "orthogonal", "clipped") - _learnt(table, "orthogonal", "SGD"),
            above=0.2,
            unit="of what can be learnt",
        ),
        Question(
            "From torch's own start, the gradient loses more than three decades over the sequence.",
            lambda table: -table.tuned("begins", over="rate", start="torch", way="clipped"),
            above=3,
            unit="decades",
            control=True,
        ),
        Question(
            "Clipping makes it learn from there too.",
            lambda table: _learnt(table, "torch", "clipped"),
            above=0.2,
            unit="of what can be learnt",
        ),
        Question(
            "No more is needed there: a penalty that keeps the gradient's norm adds little.",
            lambda table: _learnt(table, "torch", "clipped, penalty") - _learnt(table, "torch", "clipped"),
            below=0.2,
            unit="of what can be learnt",
        ),
    ),
    pictures=(
        Picture(
            "learnt",
            "learnt of the order (best 1)",
            x="rate",
            x_title="learning rate",
            by="way",
            panel="start",
            log_x=True,
            names={"start": STARTS},
        ),
        Picture(
            "ends",
            "decades of gradient over the sequence, after training",
            x="rate",
            x_title="learning rate",
            by="way",
            panel="start",
            log_x=True,
            names={"start": STARTS},
        ),
    ),
    verdict="only under these conditions",
)
