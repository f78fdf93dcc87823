"""Say again what was said before a long silence: RNN, LSTM and GRU over growing lags."""

from __future__ import annotations

from torch import nn

import graddoctor as gd
from graddoctor.lab import sequences
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured, Numbers, Table

HIDDEN = 48
CELLS = ("tanh", "LSTM", "GRU", "LSTM, gates open")


def cell(name: str, inputs: int, lag: int) -> nn.RNNBase:
    """A layer as torch starts it; or an LSTM whose gates open for the lag."""
    kind = {"tanh": nn.RNN, "GRU": nn.GRU}.get(name, nn.LSTM)
    layer: nn.RNNBase = kind(inputs, HIDDEN, batch_first=True)
    return sequences.open_gates(layer, steps=lag) if name.endswith("open") else layer  # type: ignore[arg-type]


def measure(seed: int, *, net: str, lag: int, rate: float, steps: int) -> Measured:
    """Learn to copy over a lag, and look at the gradient through time at the start."""
    recipe = sequences.recipe("copying", lambda inputs: cell(net, inputs, lag), lag, seed=seed, rate=rate, steps=steps)
    profile = sequences.through_time(recipe, recipe.model(), sequences.batch(recipe))
    return {"learnt": gd.train(recipe).evaluation or 0.0, "decades": profile.decades}


def _more(table: Table, net: str, lag: int | None = None) -> Numbers:
    """How much more it learns than a tanh RNN, each at its best rate; at the largest lag, or at this one."""
    here = table.where(lag=lag or max(table.each("lag")))
    return here.tuned("learnt", over="rate", net=net) - here.tuned("learnt", over="rate", net="tanh")


EXPERIMENT = Experiment(
    name="copying",
    title="Copying over a lag",
    claim="LSTM and GRU copy over lags at which an RNN cannot.",
    source="Hochreiter, Schmidhuber 1997; in this form Arjovsky, Shah, Bengio 2016",
    expected="Ten of eight symbols are to be repeated after a lag; who forgets them pays log 8 for each. Over lags of "
    "100 to 500, Arjovsky et al. find a tanh RNN at about that, an LSTM better at the shortest lag alone, and their "
    "unitary network far better.",
    scaled="Three symbols of eight, 48 units, 300 steps of Adam clipped at 1, the best of two rates, lags 20 and 40. "
    "The loss is that of the recalled symbols alone, so that forgetting costs log 8. Who learns at a lag that "
    "others do not must carry over; which lag that is need not.",
    lesson="Gates alone are not enough: with torch's own start, an LSTM copies no more than an RNN. Start its gates "
    "open. A GRU begins with as small a gradient and gets there all the same; over 40 steps not from every seed.",
    measure=measure,
    arms=cross(net=CELLS, lag=(20, 40), rate=(0.01, 0.03), steps=(300,)),
    quick=cross(net=CELLS, lag=(20,), rate=(0.03,), steps=(170,)),
    questions=(
        Question(
            "A tanh RNN learns less than a half over the largest lag.",
            lambda table: table.tuned("learnt", over="rate", net="tanh", lag=max(table.each("lag"))),
            below=0.5,
            unit="of what can be learnt",
            control=True,
        ),
        Question(
            "Over 20 steps, a GRU learns more than it.",
            lambda table: _more(table, "GRU", 20),
            above=0.2,
            unit="of what can be learnt",
        ),
        Question(
            "So does an LSTM.",
            lambda table: _more(table, "LSTM", 20),
            above=0.2,
            unit="of what can be learnt",
        ),
        Question(
            "Over the largest lag, an LSTM does.",
            lambda table: _more(table, "LSTM"),
            above=0.2,
            unit="of what can be learnt",
        ),
        Question(
            "So does an LSTM whose gates start open.",
            lambda table: _more(table, "LSTM, gates open"),
            above=0.2,
            unit="of what can be learnt",
        ),
    ),
    pictures=(
        Picture(
            "learnt",
            "learnt of the copies (best 1)",
            x="lag",
            x_title="lag, in steps",
            by="net",
            panel="rate",
        ),
        Picture(
            "decades",
            "decades of gradient over the sequence, at the start",
            x="lag",
            x_title="lag, in steps",
            by="net",
        ),
    ),
    verdict="only under these conditions",
)
