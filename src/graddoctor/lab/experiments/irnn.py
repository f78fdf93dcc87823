"""The identity as recurrent start: rectifiers that remember."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

import graddoctor as gd
from graddoctor.lab import sequences
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

HIDDEN, LAG = 48, 40


def identity(inputs: int) -> nn.RNN:
    """Rectifiers whose recurrent weights start as the identity, with small input weights and no biases."""
    cell = nn.RNN(inputs, HIDDEN, nonlinearity="relu", batch_first=True)
    for name, weights in cell.named_parameters():
        if name == "weight_hh_l0":
            nn.init.eye_(weights)
        else:
            nn.init.normal_(weights, std=0.1 if name == "weight_ih_l0" else 0.0)
    return cell


CELLS: dict[str, Callable[[int], nn.RNNBase]] = {
    "tanh": lambda inputs: nn.RNN(inputs, HIDDEN, batch_first=True),
    "ReLU": lambda inputs: nn.RNN(inputs, HIDDEN, nonlinearity="relu", batch_first=True),
    "ReLU, identity": identity,
    "LSTM": lambda inputs: nn.LSTM(inputs, HIDDEN, batch_first=True),
}


def measure(seed: int, look: str, cell: str, rate: float) -> Measured:
    """Learn to add; or look at the gradient through time at the start."""
    recipe = sequences.recipe("adding", CELLS[cell], LAG, seed=seed, rate=rate)
    if look == "training":
        return {"learnt": gd.train(recipe).evaluation or 0.0}
    profile = sequences.through_time(recipe, recipe.model(), sequences.batch(recipe))
    return {"decades": profile.decades}


def _learnt(table: Table, cell: str) -> Numbers:
    return table.tuned("learnt", over="rate", look="training", cell=cell)


EXPERIMENT = Experiment(
    name="irnn",
    title="The identity as recurrent start",
    claim="A recurrent network of rectifiers that starts from the identity learns long lags as well as an LSTM.",
    source="Le, Jaitly, Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
    expected="On the adding problem the identity start (IRNN) does about as well as an LSTM over lags at which tanh "
    "networks fail: rectifiers that keep their state hand the gradient back as it is.",
    scaled="48 units, 40 steps instead of 150 and more, 300 steps of Adam clipped at 1, the best of two rates; input "
    "weights of 0.1, since 0.001 takes longer than that to grow. That the identity beats other starts and does not "
    "lose to the LSTM must carry over.",
    lesson="The start decides how long a plain recurrent network remembers. Identity is the simplest one that keeps "
    "the gradient; what it keeps is everything, noise as well.",
    measure=measure,
    arms=cross(look=("gradient",), cell=tuple(CELLS), rate=(0.003,))
    + cross(look=("training",), cell=tuple(CELLS), rate=(0.003, 0.01)),
    quick=cross(look=("gradient",), cell=tuple(CELLS), rate=(0.003,))
    + cross(look=("training",), cell=tuple(CELLS), rate=(0.003,)),
    questions=(
        Question(
            "The gradient loses less than two decades over 40 steps.",
            lambda table: -table.of("decades", look="gradient", cell="ReLU, identity"),
            below=2,
            unit="decades",
        ),
        Question(
            "The identity learns to add over 40 steps, and a tanh network does not.",
            lambda table: _learnt(table, "ReLU, identity") - _learnt(table, "tanh"),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "It is as good as an LSTM.",
            lambda table: _learnt(table, "ReLU, identity") - _learnt(table, "LSTM"),
            above=-0.1,
            unit="of what can be learnt",
        ),
        Question(
            "A tanh network loses more than three decades.",
            lambda table: -table.of("decades", look="gradient", cell="tanh"),
            above=3,
            unit="decades",
            control=True,
        ),
    ),
    pictures=(
        Picture(
            "decades",
            "decades of gradient over 40 steps, at the start",
            kind="bars",
            x="cell",
            where={"look": "gradient"},
            names={"cell": {cell: cell for cell in CELLS}},
        ),
        Picture(
            "learnt",
            "learnt of the adding problem (best 1)",
            kind="bars",
            x="cell",
            where={"look": "training", "rate": 0.003},
            names={"cell": {cell: cell for cell in CELLS}},
        ),
    ),
    verdict="reproduced",
)
