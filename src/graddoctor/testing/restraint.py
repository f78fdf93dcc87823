"""Restraints that were added and went too far: weight decay, penalties in the loss, clipping, gradient hooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Tensors, digits, recall, tabular, teacher
from graddoctor.testing._nets import ResidualMLP, Transformer, cnn, fitted, mlp
from graddoctor.testing._patient import Loss, Optimizer, Patient, adam, plain_loss, seeded, sgd, sick, training

_C = Condition


def _net() -> nn.Module:
    return fitted(mlp((64, 64, 64, 10)))


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_decay(), *_clipping())


def _penalised(inner: Loss, strength: float, power: int) -> Loss:
    def loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
        penalty = torch.stack([p.abs().pow(power).sum() for p in model.parameters()]).sum()
        return inner(model, batch) + strength * penalty

    return loss


def _decayed_group(lr: float, decay: float) -> Optimizer:
    def build(model: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": decay}, {"params": others}]
        return torch.optim.SGD(groups, lr=lr)

    return build


def _decay() -> tuple[Patient, ...]:
    cause = (Cause.WEIGHT_DECAY,)
    images = training(digits, "classes", _net, sgd(0.05), epochs=10)
    return (
        sick(
            "decay_sgd",
            "Weight decay of 1 under SGD.",
            images,
            conditions=(_C.PLATEAU, _C.VANISHING),
            causes=cause,
            optimizer=sgd(0.05, weight_decay=1.0),
        ),
        sick(
            "decay_adamw",
            "AdamW with a decay of 100 at a rate of 0.001: a tenth of every weight goes in each step.",
            training(digits, "classes", _net, adam(1e-3), epochs=10),
            conditions=(_C.PLATEAU,),
            causes=cause,
            optimizer=lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=100.0),
        ),
        sick(
            "decay_group",
            "One param group, the weights of a CNN, decays with 0.8.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=8),
            conditions=(_C.PLATEAU, _C.VANISHING),
            causes=cause,
            optimizer=_decayed_group(0.05, 0.8),
        ),
        sick(
            "decay_squared_in_loss",
            "The loss adds 0.3 times the sum of all squared weights.",
            images,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=(Cause.WEIGHT_DECAY, Cause.LOSS),
            loss=_penalised(plain_loss("classes"), 0.3, 2),
        ),
        sick(
            "decay_absolute_in_loss",
            "The loss adds 0.05 times the sum of all absolute weights.",
            training(tabular, "real", lambda: fitted(mlp((10, 48, 48, 1))), sgd(0.05, 0.9), epochs=20),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=(Cause.WEIGHT_DECAY, Cause.LOSS),
            loss=_penalised(plain_loss("real"), 0.05, 1),
        ),
        sick(
            "decay_adam_coupled",
            "Adam with a coupled decay of 1, which its own scaling turns into a constant pull to zero.",
            training(teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), adam(3e-3), judged=False),
            conditions=(_C.OSCILLATION, _C.PLATEAU),
            causes=cause,
            optimizer=adam(3e-3, weight_decay=1.0),
        ),
    )


def _clip_norm(limit: float) -> Callable[[list[torch.Tensor]], object]:
    return partial(torch.nn.utils.clip_grad_norm_, max_norm=limit)


def _clip_value(limit: float) -> Callable[[list[torch.Tensor]], object]:
    return partial(torch.nn.utils.clip_grad_value_, clip_value=limit)


def _hooked(build: Callable[[], nn.Module], change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    model = build()
    for parameter in model.parameters():
        parameter.register_hook(change)  # type: ignore[no-untyped-call]
    return model


class _Squeezed(nn.Module):
    """A network that shrinks the gradient at its own features by a tensor hook."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.body, self.head = fitted(mlp((10, 8, 8))), fitted(mlp((8, 24, 1)))
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        if features.requires_grad:
            features.register_hook(lambda gradient: gradient * self.factor)
        return self.head(features)  # type: ignore[no-any-return]


def _clipping() -> tuple[Patient, ...]:
    cause = (Cause.CLIPPING,)
    images = training(digits, "classes", _net, sgd(0.05), epochs=10)
    return (
        sick(
            "clip_norm_to_nothing",
            "Gradients are clipped to a norm of 0.0003 under SGD.",
            images,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            clip=_clip_norm(3e-4),
        ),
        sick(
            "clip_value_to_nothing",
            "Gradients are clipped to ±0.000001 in a CNN.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=8),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            clip=_clip_value(1e-6),
        ),
        sick(
            "clip_norm_residual",
            "A residual network under SGD, clipped to 0.001.",
            training(digits, "classes", lambda: ResidualMLP(64, 32, 10, blocks=6), sgd(0.05), epochs=8),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            clip=_clip_norm(1e-3),
        ),
        sick(
            "clip_attention",
            "A transformer under Adam, clipped so far down that its epsilon drowns what is left.",
            training(recall, "classes", Transformer, adam(5e-3)),
            conditions=(_C.PLATEAU,),
            causes=cause,
            clip=_clip_norm(1e-9),
        ),
        sick(
            "clip_parameter_hook",
            "A hook on every parameter clamps its gradient to ±0.000003.",
            images,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            model=seeded(lambda: _hooked(_net, lambda gradient: gradient.clamp(-3e-6, 3e-6))),
        ),
        sick(
            "clip_tensor_hook",
            "A tensor hook between body and head multiplies the gradient by 0.000001.",
            training(tabular, "real", lambda: _Squeezed(1.0), sgd(0.03, 0.9), epochs=40),
            conditions=(_C.PLATEAU, _C.VANISHING),
            causes=(Cause.CLIPPING, Cause.GRAPH),
            modules=("body",),
            model=seeded(lambda: _Squeezed(1e-6)),
        ),
    )
