"""Recurrent networks that cannot carry a gradient through time: the cell, its matrices, its biases."""

from __future__ import annotations

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._patient import Patient, adam, seeded, sgd, sick, training
from graddoctor.testing._recurrent_nets import Reader, clipped, identity, orthogonal, recurrent, weights
from graddoctor.testing._recurrent_twins import accumulating, by_identity, by_rotation, remembering, rotation
from graddoctor.testing._sequences import adding, bits, order, shown

_C = Condition
_CELL = ("cell",)
_START = (Cause.INITIALIZATION,)
_CARRY = (Cause.RECURRENCE, Cause.INITIALIZATION)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_cells(), *_small(), *_large(), *_beside())


def _cells() -> tuple[Patient, ...]:
    return (
        sick(
            "recurrent_tanh_default",
            "PyTorch's default tanh cell must remember the first of forty steps and loses ten decades on the way.",
            by_rotation(40),
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(Reader),
        ),
        sick(
            "recurrent_relu_default",
            "The default ReLU cell forgets the first of fifty steps; with the identity it would not.",
            by_identity(),
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: Reader("relu")),
        ),
        sick(
            "recurrent_tanh_adding",
            "Two marked numbers of thirty are to be added, and a default tanh cell has forgotten the first.",
            training(lambda: adding(30), "real", lambda: remembering(2, 1), adam(1e-2), epochs=10, clip=clipped()),
            conditions=(
                _C.PLATEAU,
                _C.RECURRENT_VANISHING,
            ),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: Reader("tanh", 2, outputs=1)),
        ),
        sick(
            "recurrent_relu_parity",
            "The parity of two bits, fifteen steps apart, with a default ReLU cell.",
            training(lambda: bits(30), "classes", lambda: accumulating(2, 2), adam(2e-3), epochs=10, clip=clipped()),
            conditions=(
                _C.PLATEAU,
                _C.POOR_INITIALIZATION,
                _C.RECURRENT_VANISHING,
            ),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: Reader("relu", 2, outputs=2)),
        ),
        sick(
            "recurrent_tanh_order",
            "Which of two events came first, with a default tanh cell over 24 steps.",
            training(lambda: order(24), "classes", lambda: accumulating(3), adam(2e-3), epochs=8, clip=clipped()),
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: Reader("tanh", 3)),
        ),
    )


def _small() -> tuple[Patient, ...]:
    return (
        sick(
            "recurrent_matrix_small",
            "The recurrent matrix is a rotation times 0.3: half a decade is lost at every step.",
            by_rotation(),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=(*_CARRY, Cause.LEARNING_RATE),
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader(), orthogonal(0.3))),
        ),
        sick(
            "recurrent_matrix_zero",
            "The recurrent matrix starts at zero, as biases may and weights should not.",
            by_rotation(),
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader(), nn.init.zeros_)),
        ),
    )


def _large() -> tuple[Patient, ...]:
    unclipped = training(lambda: shown(30), "classes", accumulating, sgd(0.05), epochs=8, clip=clipped())
    return (
        sick(
            "recurrent_matrix_large",
            "The recurrent matrix is a rotation times 4: tanh is pinned and the path through time chaotic.",
            by_rotation(),
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.RECURRENT_EXPLODING, _C.SATURATION),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader(), orthogonal(4.0))),
        ),
        sick(
            "recurrent_matrix_normal",
            "The recurrent matrix is drawn from N(0, 1), as if it had one input and not 32.",
            by_rotation(),
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.RECURRENT_EXPLODING, _C.SATURATION),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader(), nn.init.normal_)),
        ),
        sick(
            "recurrent_identity_grows",
            "A ReLU cell whose matrix is 1.3 times the identity, trained without a clip, overflows at once.",
            unclipped,
            conditions=(
                _C.NON_FINITE,
                _C.POOR_INITIALIZATION,
                _C.RECURRENT_EXPLODING,
            ),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader("relu"), identity(1.3))),
            clip=None,
        ),
        sick(
            "recurrent_relu_doubles",
            "A ReLU cell whose matrix is twice a rotation: state and gradient grow by half at every step.",
            by_identity(30),
            conditions=(
                _C.EXPLODING,
                _C.POOR_INITIALIZATION,
                _C.RECURRENT_EXPLODING,
            ),
            causes=_CARRY,
            modules=_CELL,
            model=seeded(lambda: recurrent(Reader("relu"), orthogonal(2.5))),
        ),
    )


def _with(model: nn.Module, start: str, factor: float = 1.0, offset: float = 0.0) -> nn.Module:
    with torch.no_grad():
        for parameter in weights(model, start):
            parameter.mul_(factor).add_(offset)
    return model


def _beside() -> tuple[Patient, ...]:
    return (
        sick(
            "recurrent_bias_pins",
            "The biases of a tanh cell start at 4, where its slope is a thousandth at every step.",
            by_rotation(),
            conditions=(
                _C.PLATEAU,
                _C.RECURRENT_VANISHING,
                _C.SATURATION,
            ),
            causes=_START,
            modules=_CELL,
            model=seeded(lambda: _with(rotation(), "bias_ih", offset=4.0)),
        ),
        sick(
            "recurrent_reading_pins",
            "The input matrix of a tanh cell starts thirty times too large and pins every state.",
            by_rotation(),
            conditions=(_C.PLATEAU, _C.RECURRENT_VANISHING, _C.SATURATION),
            causes=_START,
            modules=_CELL,
            model=seeded(lambda: _with(rotation(), "weight_ih", 30.0)),
        ),
    )
