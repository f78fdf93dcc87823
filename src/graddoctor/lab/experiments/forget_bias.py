"""The bias of the forget gate: how long a memory lasts is decided by its start."""

from __future__ import annotations

from torch import nn

import graddoctor as gd
from graddoctor.lab import sequences
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

HIDDEN, LAG = 48, 60
STARTS = ("torch", "bias 1", "bias 3", "chrono")


def cell(start: str, inputs: int) -> nn.LSTM:
    """An LSTM whose forget gates start as is said."""
    lstm = nn.LSTM(inputs, HIDDEN, batch_first=True)
    if start == "torch":
        return lstm
    return (
        sequences.open_gates(lstm, steps=LAG)
        if start == "chrono"
        else sequences.open_gates(lstm, bias=float(start[5:]))
    )


def measure(seed: int, look: str, start: str, rate: float) -> Measured:
    """Learn to recall; or look at the gradient through time at the start."""
    recipe = sequences.recipe("recall", lambda inputs: cell(start, inputs), LAG, seed=seed, rate=rate)
    if look == "training":
        return {"learnt": gd.train(recipe).evaluation or 0.0}
    profile = sequences.through_time(recipe, recipe.model(), sequences.batch(recipe))
    return {"decades": profile.decades, "open": sum(dict(profile.gates)["forget"]) / LAG}


def _learnt(table: Table, start: str) -> Numbers:
    return table.tuned("learnt", over="rate", look="training", start=start)


EXPERIMENT = Experiment(
    name="forget-bias",
    title="The bias of the forget gate",
    claim="Add one to the forget gate's bias, and an LSTM learns long lags.",
    source="Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015",
    expected="A gate that is open by f keeps f of the memory at each step: half of it is gone after one step at a "
    "bias of 0, after 2.2 at 1, after 14 at 3. Jozefowicz et al. find that a bias of one closes the gap between LSTM "
    "and GRU on their tasks. Tallec and Ollivier 2018 draw biases that fit the lag (chrono).",
    scaled="48 units, one of four symbols to be recalled after 60 steps of noise, 300 steps of Adam clipped at 1, "
    "the best of two rates. That more bias keeps more gradient, and that the bias must fit the lag, must carry over.",
    lesson="One is right for lags of a few steps, and far too little for sixty. Let the bias fit the lag: three and "
    "more, or chrono.",
    measure=measure,
    arms=cross(look=("gradient",), start=STARTS, rate=(0.003,))
    + cross(look=("training",), start=STARTS, rate=(0.003, 0.01)),
    quick=cross(look=("gradient",), start=STARTS, rate=(0.003,))
    + cross(look=("training",), start=STARTS, rate=(0.003,)),
    questions=(
        Question(
            "A bias of one keeps at least three decades of gradient over 60 steps.",
            lambda table: table.difference("decades", {"start": "bias 1"}, {"start": "torch"}, look="gradient"),
            above=3,
            unit="decades",
        ),
        Question(
            "With it the LSTM learns to recall over 60 steps.",
            lambda table: _learnt(table, "bias 1"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "With a bias of three it does.",
            lambda table: _learnt(table, "bias 3"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "With chrono initialization it does.",
            lambda table: _learnt(table, "chrono"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "With torch's own start it does not.",
            lambda table: _learnt(table, "torch"),
            below=0.1,
            unit="of what can be learnt",
            control=True,
        ),
    ),
    pictures=(
        Picture(
            "decades",
            "decades of gradient over 60 steps, at the start",
            kind="bars",
            x="start",
            where={"look": "gradient"},
            names={"start": {start: start for start in STARTS}},
        ),
        Picture(
            "learnt",
            "learnt of the recall task (best 1)",
            kind="bars",
            x="start",
            where={"look": "training", "rate": 0.003},
            names={"start": {start: start for start in STARTS}},
        ),
    ),
    verdict="only under these conditions",
)
