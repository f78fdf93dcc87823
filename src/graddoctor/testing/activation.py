"""Activations that pass too little, too much or nothing, as modules and as plain functions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import circles, digits, teacher
from graddoctor.testing._nets import Fn, Functional, cnn, fitted, mlp
from graddoctor.testing._patient import Patient, seeded, sgd, sick, training

_C = Condition
_ACT = (Cause.ACTIVATION,)
_EIGHT = (64, *(64,) * 8, 10)
_FIVE = (64, *(64,) * 5, 10)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_squashing(), *_growing(), *_silent())


def _squashing() -> tuple[Patient, ...]:
    tanh = training(digits, "classes", lambda: fitted(mlp(_EIGHT, nn.Tanh), "tanh"), sgd(0.05))
    conv = training(digits, "classes", lambda: fitted(cnn(convs=6, channels=8)), sgd(0.05), epochs=12)
    return (
        sick(
            "act_sigmoid_mlp",
            "Eight sigmoid layers of Xavier size: each passes at most a quarter of the gradient.",
            tanh,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp(_EIGHT, nn.Sigmoid), "tanh")),
        ),
        sick(
            "act_sigmoid_cnn",
            "Six convolutions with sigmoids between them.",
            conv,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_ACT,
            model=seeded(lambda: fitted(cnn(nn.Sigmoid, convs=6, channels=8), "tanh")),
        ),
        sick(
            "act_hard_sigmoid",
            "Eight hard sigmoids, of slope one sixth.",
            tanh,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp(_EIGHT, nn.Hardsigmoid), "tanh")),
        ),
        sick(
            "act_softmax_inside",
            "A softmax over the units after each of five hidden layers.",
            training(digits, "classes", lambda: fitted(mlp(_FIVE)), sgd(0.05)),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.SATURATION, _C.VANISHING),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp(_FIVE, lambda: nn.Softmax(dim=1)))),
        ),
        sick(
            "act_functional_sigmoid",
            "Seven layers of torch.sigmoid on bare parameters, on a regression without evaluation.",
            training(
                teacher,
                "real",
                lambda: Functional((12, *(32,) * 7, 1), torch.tanh, lambda n: n**-0.5),
                sgd(0.05),
                epochs=15,
                judged=False,
            ),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_ACT,
            model=seeded(lambda: Functional((12, *(32,) * 7, 1), torch.sigmoid, lambda n: n**-0.5)),
        ),
        sick(
            "act_tanh_steep",
            "tanh(40 x) in five layers: nearly a step, flat almost everywhere.",
            training(digits, "classes", lambda: fitted(mlp(_FIVE, nn.Tanh), "tanh"), sgd(0.05)),
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.SATURATION, _C.VANISHING),
            causes=(Cause.ACTIVATION, Cause.INITIALIZATION),
            model=seeded(lambda: fitted(mlp(_FIVE, lambda: Fn(lambda x: torch.tanh(40 * x))), "tanh")),
        ),
        sick(
            "act_tanh_shrunk",
            "0.1 tanh(x) in eight layers: each loses a decade.",
            tanh,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=(Cause.ACTIVATION, Cause.INITIALIZATION),
            model=seeded(lambda: fitted(mlp(_EIGHT, lambda: Fn(lambda x: 0.1 * torch.tanh(x))), "tanh")),
        ),
    )


def _growing() -> tuple[Patient, ...]:
    relu = training(digits, "classes", lambda: fitted(mlp(_FIVE)), sgd(0.05))
    return (
        sick(
            "act_exp",
            "Five exponentials in a row overflow.",
            relu,
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp(_FIVE, lambda: Fn(torch.exp)))),
        ),
        sick(
            "act_square",
            "Six layers that square their inputs: large values grow doubly exponentially.",
            training(digits, "classes", lambda: fitted(mlp((64, *(64,) * 6, 10))), sgd(0.05)),
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp((64, *(64,) * 6, 10), lambda: Fn(torch.square)))),
        ),
    )


def _silent() -> tuple[Patient, ...]:
    five = training(digits, "classes", lambda: fitted(mlp(_FIVE)), sgd(0.05))
    narrow = (2, *(3,) * 20, 2)
    return (
        sick(
            "act_threshold",
            "A threshold of 8 in place of ReLU: hardly any value passes it.",
            five,
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_ACT,
            model=seeded(lambda: fitted(mlp(_FIVE, lambda: nn.Threshold(8.0, 0.0)))),
        ),
        sick(
            "act_relu6_pinned",
            "ReLU6 behind weights forty times too large: every unit stands at 0 or at 6.",
            five,
            conditions=(
                _C.DEAD_UNITS,
                _C.EXPLODING,
                _C.OSCILLATION,
                _C.POOR_INITIALIZATION,
                _C.SATURATION,
                _C.VANISHING,
            ),
            causes=(Cause.ACTIVATION, Cause.INITIALIZATION),
            model=seeded(lambda: fitted(mlp(_FIVE, nn.ReLU6), gain=40.0)),
        ),
        sick(
            "act_narrow_relu",
            "Twenty ReLU layers of three units: the chance that some layer is dead at birth is near one.",
            training(circles, "classes", lambda: fitted(mlp((2, 16, 16, 2))), sgd(0.1), epochs=30, size=50),
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=(Cause.WIDTH, Cause.DEPTH, Cause.ACTIVATION),
            model=seeded(lambda: fitted(mlp(narrow))),
        ),
        sick(
            "act_negated_relu",
            "ReLU(-|x|) in the second block of a CNN: a sign slip that lets nothing through.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=6),
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_ACT,
            modules=("act2",),
            model=seeded(_slipped),
        ),
    )


def _slipped() -> nn.Module:
    model = fitted(cnn())
    model.act2 = Fn(lambda x: functional.relu(-x.abs()))
    return model
