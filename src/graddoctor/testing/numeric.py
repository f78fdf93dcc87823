"""Arithmetic without an answer: logarithms of zero, zero by zero, roots at zero, overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Tensors, blobs, digits, teacher
from graddoctor.testing._nets import Fn, fitted, mlp
from graddoctor.testing._patient import Patient, adam, plain_loss, seeded, sgd, sick, training

_C = Condition
_NAN = (_C.NON_FINITE,)


def _log_of_softmax(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    shares = torch.softmax(40 * model(images), dim=1)
    return -shares.log()[torch.arange(len(labels)), labels].mean()


def _log_softmax(model: nn.Module, batch: Tensors) -> torch.Tensor:
    return functional.cross_entropy(40 * model(batch[0]), batch[1])


def _normalised(floor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: 4 * x / (x.square().sum(1, keepdim=True) + floor).sqrt()


def _short_biases(floor: float) -> Callable[[nn.Module, Any], torch.Tensor]:
    def loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
        lengths = [(p.square().sum() + floor).sqrt() for p in model.parameters() if p.dim() == 1]
        return plain_loss("real")(model, batch) + 1e-3 * torch.stack(lengths).sum()

    return loss


def _gaussian(*, bounded: bool) -> Callable[[nn.Module, Any], torch.Tensor]:
    def loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
        points, target = batch
        output: torch.Tensor = model(points)
        mean, spread = output.chunk(2, dim=1)
        spread = 3 * torch.tanh(spread / 3) if bounded else 120 * spread
        return (0.5 * spread + 0.5 * (mean - target).square() * torch.exp(-spread)).mean()

    return loss


def _standardised(floor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def standardise(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) + floor).sqrt()

    return standardise


def _in_front(function: Callable[[torch.Tensor], torch.Tensor], net: nn.Module) -> nn.Module:
    return nn.Sequential(Fn(function), net)


def _soft_plus(x: torch.Tensor) -> torch.Tensor:
    return torch.log(1 + torch.exp(30 * x)) / 30


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_losses(), *_layers())


def _losses() -> tuple[Patient, ...]:
    def net() -> nn.Module:
        return fitted(mlp((64, 64, 64, 10)))

    def pair() -> nn.Module:
        return fitted(mlp((12, 48, 48, 2)), gain=0.7)

    scaled = training(digits, "classes", net, adam(1e-3), epochs=16, loss=_log_softmax)
    roots = training(
        teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), sgd(0.05), epochs=16, loss=_short_biases(1e-6)
    )
    spread = training(teacher, "real", pair, sgd(0.02), epochs=16, loss=_gaussian(bounded=True), judged=False)
    return (
        sick(
            "numeric_log_of_zero",
            "The logarithm of a softmax, taken in two steps, of shares that round to zero.",
            scaled,
            conditions=(_C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=(Cause.LOSS,),
            loss=_log_of_softmax,
        ),
        sick(
            "numeric_root_at_zero",
            "The loss adds the length of each bias vector; at zero, where they start, that root has no slope.",
            roots,
            conditions=(_C.NON_FINITE,),
            causes=(Cause.LOSS,),
            loss=_short_biases(0.0),
        ),
        sick(
            "numeric_exp_overflow",
            "A Gaussian likelihood exponentiates an unbounded log variance.",
            spread,
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=(Cause.LOSS, Cause.OUTPUT_ACTIVATION),
            loss=_gaussian(bounded=False),
        ),
    )


def _layers() -> tuple[Patient, ...]:
    def net() -> nn.Module:
        return fitted(mlp((16, 48, 48, 6)))

    def images(act: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
        return fitted(mlp((64, 48, 48, 10), lambda: Fn(act)))

    clouds = training(blobs, "classes", net, sgd(0.1), epochs=8)
    return (
        sick(
            "numeric_zero_by_zero",
            "Features are divided by their length, and some are zero after a narrow ReLU layer.",
            training(
                blobs,
                "classes",
                lambda: nn.Sequential(fitted(mlp((16, 24, 6))), nn.ReLU(), Fn(_normalised(1e-3)), nn.Linear(6, 6)),
                sgd(0.2),
                epochs=24,
            ),
            conditions=(_C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=(Cause.NORMALIZATION, Cause.ACTIVATION),
            modules=("2",),
            model=seeded(
                lambda: nn.Sequential(fitted(mlp((16, 24, 6))), nn.ReLU(), Fn(_normalised(0.0)), nn.Linear(6, 6))
            ),
        ),
        sick(
            "numeric_constant_column",
            "Inputs are standardised by each batch's spread, and some pixels never change.",
            training(
                digits, "classes", lambda: _in_front(_standardised(1e-2), fitted(mlp((64, 48, 48, 10)))), sgd(0.05)
            ),
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION, _C.UNSCALED_INPUT),
            causes=(Cause.NORMALIZATION, Cause.INPUT_SCALE),
            modules=("0",),
            model=seeded(lambda: _in_front(_standardised(0.0), fitted(mlp((64, 48, 48, 10))))),
        ),
        sick(
            "numeric_handmade_softplus",
            "log(1 + exp(30 x)) written out: it overflows where softplus would be linear.",
            training(
                digits, "classes", lambda: images(lambda x: functional.softplus(x, beta=30)), sgd(0.05), epochs=10
            ),
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=(Cause.ACTIVATION, Cause.INITIALIZATION),
            modules=("act1",),
            model=seeded(lambda: images(_soft_plus)),
        ),
        sick(
            "numeric_inverse_sine",
            "arcsin of values outside of [-1, 1] in the first layer.",
            clouds,
            conditions=(_C.NON_FINITE,),
            causes=(Cause.ACTIVATION, Cause.INPUT_SCALE, Cause.NORMALIZATION),
            modules=("0",),
            model=seeded(lambda: _in_front(torch.asin, net())),
        ),
    )
