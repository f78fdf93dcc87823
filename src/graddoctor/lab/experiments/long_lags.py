"""LSTM and GRU over growing lags: gates remember where they start open."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import graddoctor as gd
from graddoctor.lab import sequences
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

HIDDEN, LOOK = 48, 100
CELLS: dict[str, Callable[[int], nn.RNNBase]] = {
    "tanh": lambda inputs: nn.RNN(inputs, HIDDEN, batch_first=True),
    "LSTM": lambda inputs: nn.LSTM(inputs, HIDDEN, batch_first=True),
    "GRU": lambda inputs: nn.GRU(inputs, HIDDEN, batch_first=True),
    "LSTM, gates open": lambda inputs: sequences.open_gates(nn.LSTM(inputs, HIDDEN, batch_first=True), steps=60),
}


def measure(seed: int, look: str, cell: str, lag: int, rate: float) -> Measured:
    """Learn a task over a lag; or look at the gradient through time at the start."""
    if look != "gradient":
        outcome = gd.train(sequences.recipe(look, CELLS[cell], lag, seed=seed, rate=rate))
        return {"learnt": outcome.evaluation or 0.0}
    recipe = sequences.recipe("recall", CELLS[cell], lag, seed=seed, rate=rate)
    with torch.random.fork_rng():
        batch = sequences.batch(recipe)
    profile = sequences.through_time(recipe, recipe.model(), batch)
    return {"decades": profile.decades}


def _learnt(table: Table, task: str, cell: str) -> Numbers:
    """At the largest lag, at the best rate."""
    here = table.where(look=task, cell=cell)
    return here.tuned("learnt", over="rate", lag=max(here.each("lag")))


EXPERIMENT = Experiment(
    name="long-lags",
    title="RNN, LSTM and GRU over long lags",
    claim="LSTM and GRU cure the gradient that vanishes through time, and learn over lags at which an RNN cannot.",
    source="Hochreiter, Schmidhuber 1997; Cho et al. 2014; against Bengio, Simard, Frasconi 1994",
    expected="Hochreiter and Schmidhuber solve lags of 100 and more, with a memory cell that had no forget gate: it "
    "kept all there was. Today's gates start half open, and half of the memory is lost at each step: over 100 steps "
    "about 20 decades, where a tanh RNN loses 25.",
    scaled="48 units, 300 steps of Adam clipped at 1, the best of two rates. Recall: which of four symbols stood at "
    "the start, before noise? Adding: the sum of two marked numbers. That shut gates lose as much as an RNN does, "
    "and open ones do not, must carry over; which lag is too long for whom need not.",
    lesson="A gated cell comes with its gate bias. With torch's own start, LSTM and GRU forget as fast as a tanh "
    "RNN, and what lies 60 steps back they do not learn. Gates that start open do.",
    measure=measure,
    arms=cross(look=("gradient",), cell=tuple(CELLS), lag=(LOOK,), rate=(0.0,))
    + cross(look=("recall",), cell=tuple(CELLS), lag=(10, 30, 60), rate=(0.003, 0.01))
    + cross(look=("adding",), cell=tuple(CELLS), lag=(40,), rate=(0.003, 0.01)),
    quick=cross(look=("gradient",), cell=tuple(CELLS), lag=(LOOK,), rate=(0.0,))
    + cross(look=("recall",), cell=("LSTM", "LSTM, gates open"), lag=(60,), rate=(0.01,))
    + cross(look=("adding",), cell=("tanh", "GRU"), lag=(40,), rate=(0.01,)),
    questions=(
        Question(
            "At the start, an LSTM loses less than 10 decades of gradient over 100 steps.",
            lambda table: -table.of("decades", look="gradient", cell="LSTM"),
            below=10,
            unit="decades",
        ),
        Question(
            "So does a GRU.", lambda table: -table.of("decades", look="gradient", cell="GRU"), below=10, unit="decades"
        ),
        Question(
            "So does an LSTM whose gates start open.",
            lambda table: -table.of("decades", look="gradient", cell="LSTM, gates open"),
            below=10,
            unit="decades",
        ),
        Question(
            "An LSTM learns to recall over 60 steps.",
            lambda table: _learnt(table, "recall", "LSTM"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "So does one whose gates start open.",
            lambda table: _learnt(table, "recall", "LSTM, gates open"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "A GRU learns to add over 40 steps, which a tanh RNN does not.",
            lambda table: _learnt(table, "adding", "GRU") - _learnt(table, "adding", "tanh"),
            above=0.3,
            unit="of what can be learnt",
        ),
    ),
    pictures=(
        Picture(
            "decades",
            "decades of gradient over 100 steps, at the start",
            kind="bars",
            x="cell",
            where={"look": "gradient"},
            names={"cell": {cell: cell for cell in CELLS}},
        ),
        Picture(
            "learnt",
            "learnt of the recall task (best 1)",
            x="lag",
            x_title="lag, in steps",
            by="cell",
            where={"look": "recall", "rate": 0.01},
        ),
    ),
    verdict="only under these conditions",
)
