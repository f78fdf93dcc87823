"""Something between the last layer and the loss that should not be there, or has the wrong shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import blobs, digits, moons, recall, teacher
from graddoctor.testing._nets import Fn, Transformer, cnn, fitted, mlp
from graddoctor.testing._patient import Patient, adam, seeded, sgd, sick, training

_C = Condition
_OUT = (Cause.OUTPUT_ACTIVATION,)


def _ending(build: Callable[[], nn.Module], last: nn.Module) -> nn.Module:
    model = build()
    model.add_module("last", last)
    return model


class _Normalised(nn.Module):
    """A backbone whose forward ends in a softmax call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.net(x), dim=-1)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_classes(), *_regressions(), *_binary())


def _classes() -> tuple[Patient, ...]:
    def net() -> nn.Module:
        return fitted(mlp((64, 64, 64, 10)))

    def conv() -> nn.Module:
        return fitted(cnn())

    images = training(digits, "classes", net, sgd(0.1), epochs=24)
    maps = training(digits, "classes", conv, sgd(0.05), epochs=8)
    clouds = training(blobs, "classes", lambda: fitted(mlp((16, 48, 48, 6))), sgd(0.1), epochs=8)
    unjudged = clouds.with_(evaluate=None)
    return (
        sick(
            "output_softmax_module",
            "A softmax module before cross entropy, which has its own: the loss cannot fall below 1.46.",
            images,
            conditions=(_C.PLATEAU,),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(net, nn.Softmax(dim=1))),
        ),
        sick(
            "output_softmax_functional",
            "torch.softmax at the end of a CNN's forward, before cross entropy.",
            maps,
            conditions=(_C.PLATEAU,),
            causes=_OUT,
            model=seeded(lambda: _Normalised(conv())),
        ),
        sick(
            "output_softmax_attention",
            "A transformer returns probabilities to a loss that wants logits; judged by its loss alone.",
            training(recall, "classes", Transformer, adam(5e-3), judged=False),
            conditions=(_C.SATURATION,),
            causes=_OUT,
            model=seeded(lambda: _Normalised(Transformer())),
        ),
        sick(
            "output_softmax_wrong_axis",
            "The softmax runs over the batch, so every logit depends on the neighbours of a sample.",
            clouds,
            conditions=(_C.PLATEAU,),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(lambda: fitted(mlp((16, 48, 48, 6))), nn.Softmax(dim=0))),
        ),
        sick(
            "output_relu_logits",
            "A ReLU on logits that start below zero: silent, and nothing flows back.",
            images,
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=(Cause.OUTPUT_ACTIVATION, Cause.INITIALIZATION),
            modules=("last",),
            model=seeded(_silent_logits),
        ),
        sick(
            "output_clamped",
            "Logits clamped to ±0.3 keep the loss near where it starts; judged by its loss alone.",
            unjudged,
            conditions=(_C.PLATEAU, _C.SATURATION),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(lambda: fitted(mlp((16, 48, 48, 6))), nn.Hardtanh(-0.3, 0.3))),
        ),
    )


def _silent_logits() -> nn.Module:
    model = fitted(mlp((64, 64, 64, 10)))
    nn.init.constant_(model.get_submodule("out").bias, -15.0)  # type: ignore[arg-type]
    model.add_module("last", nn.ReLU())
    return model


def _regressions() -> tuple[Patient, ...]:
    def net() -> nn.Module:
        return fitted(mlp((12, 48, 48, 1)))

    base = training(teacher, "real", net, sgd(0.03, 0.9))
    with_adam = training(teacher, "real", net, adam(3e-3))
    return (
        sick(
            "output_relu_regression",
            "A ReLU at the end of a regression on targets of both signs.",
            base,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(net, nn.ReLU())),
        ),
        sick(
            "output_sigmoid_regression",
            "A sigmoid at the end of a regression on targets of mean 0 and spread 1.",
            with_adam,
            conditions=(_C.PLATEAU, _C.SATURATION),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(net, nn.Sigmoid())),
        ),
        sick(
            "output_tanh_shrunk",
            "The network ends in 0.5 tanh, which cannot reach most targets; judged by its loss alone.",
            training(teacher, "real", net, adam(3e-3), judged=False),
            conditions=(_C.PLATEAU, _C.SATURATION),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(net, Fn(lambda x: 0.5 * torch.tanh(x)))),
        ),
    )


def _binary() -> tuple[Patient, ...]:
    def task() -> object:
        return moons(binary=True)

    def net() -> nn.Module:
        return fitted(mlp((2, 32, 32, 1)))

    base = training(task, "binary", net, sgd(0.3), epochs=40)  # type: ignore[arg-type]
    return (
        sick(
            "output_sigmoid_twice",
            "A sigmoid before the loss that applies one itself: no sample can be called negative.",
            base,
            conditions=(_C.PLATEAU, _C.SATURATION),
            causes=_OUT,
            modules=("last",),
            model=seeded(lambda: _ending(net, nn.Sigmoid())),
        ),
    )
