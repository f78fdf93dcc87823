"""Recurrences written by hand: loops of linear layers, of single-step cells, of bare parameters."""

from __future__ import annotations

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._patient import Patient, adam, seeded, sick, training
from graddoctor.testing._recurrent_nets import Bare, CellLoop, Loop, clipped, gate
from graddoctor.testing._sequences import shown

_C = Condition
_CELL = ("cell",)
_CARRY = (Cause.RECURRENCE, Cause.INITIALIZATION)
_GATES = (Cause.GATES, Cause.INITIALIZATION, Cause.RECURRENCE)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return _loops()


def _turned(net: Loop) -> Loop:
    nn.init.orthogonal_(net.carry.weight)
    return net


def _loops() -> tuple[Patient, ...]:
    loop = training(lambda: shown(24), "classes", lambda: _turned(Loop()), adam(4e-3), epochs=8, clip=clipped())
    bare = training(lambda: shown(30), "classes", Bare, adam(2e-3), epochs=8, clip=clipped())
    gru = training(
        lambda: shown(20),
        "classes",
        lambda: gate(CellLoop(nn.GRUCell(4, 24)), 1, 3.0),
        adam(5e-3),
        epochs=5,
        clip=clipped(),
    )
    return (
        sick(
            "recurrent_loop_default",
            "A tanh cell written with two linear layers of the default start, in a loop of 24 steps.",
            loop,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(*_CARRY, Cause.LEARNING_RATE),
            modules=("carry",),
            model=seeded(Loop),
        ),
        sick(
            "recurrent_loop_sigmoid",
            "The hand-written cell squashes with a sigmoid, whose slope is a quarter at most.",
            loop,
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(Cause.ACTIVATION, Cause.RECURRENCE),
            model=seeded(lambda: _turned(Loop(act=torch.sigmoid))),
        ),
        sick(
            "recurrent_loop_detached",
            "The loop detaches the state at every step by mistake, so that no gradient reaches the past.",
            loop,
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(Cause.GRAPH,),
            model=seeded(lambda: _turned(Loop(cut=1))),
        ),
        sick(
            "recurrent_bare_small",
            "A recurrence over bare parameters whose matrix is half a rotation.",
            bare,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(*_CARRY, Cause.LEARNING_RATE),
            model=seeded(lambda: Bare(scale=0.5)),
        ),
        sick(
            "recurrent_gru_cell_loop",
            "A GRUCell in a loop, with the default biases of its gates.",
            gru,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(*_GATES, Cause.LEARNING_RATE),
            modules=_CELL,
            model=seeded(lambda: CellLoop(nn.GRUCell(4, 24))),
        ),
    )
