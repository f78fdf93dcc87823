"""Low precision: gradients that round to zero, updates that round away, losses that overflow."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Tensors, digits, tabular, teacher
from graddoctor.testing._nets import fitted, mlp
from graddoctor.testing._patient import Patient, plain_loss, seeded, sgd, sick, training

_C = Condition
_PRECISION = (Cause.PRECISION,)


class _HalfLinear(nn.Linear):
    """A linear layer that computes in half precision and hands out float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.bias is not None
        return functional.linear(x.half(), self.weight.half(), self.bias.half()).float()


class _RoundGradient(torch.autograd.Function):
    """Identity forward; the gradient passes through half precision, unscaled."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - autograd's signature
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - autograd's signature
        return gradients[0].half().float()


class _Rounding(nn.Module):
    """A network whose hidden gradients pass through half precision."""

    def __init__(self, *, rounds: bool) -> None:
        super().__init__()
        self.body, self.head = fitted(mlp((64, 8, 8, 8), nn.Tanh), "tanh"), nn.Linear(8, 10)
        self.rounds = rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        if self.rounds:
            features = _RoundGradient.apply(features)  # type: ignore[no-untyped-call]
        return self.head(features)  # type: ignore[no-any-return]


def _halved(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                layer = _HalfLinear(child.in_features, child.out_features)
                layer.load_state_dict(child.state_dict())
                setattr(module, name, layer)
    return model


def _small_loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
    return 1e-6 * functional.cross_entropy(model(batch[0]), batch[1])


def _sum_in_half(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    errors: torch.Tensor = model(points) - target
    return (errors * 32).half().square().sum().float() / (1024 * len(target))


def _sum_in_full(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    errors: torch.Tensor = model(points) - target
    return (errors * 32).square().sum() / (1024 * len(target))


def _cast_loss(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    dtype = next(model.parameters()).dtype
    return plain_loss("real")(model, (points.to(dtype), target.to(dtype)))


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    images = training(
        digits, "classes", lambda: fitted(mlp((64, 48, 48, 10))), sgd(0.1 * 1e6), epochs=10, loss=_small_loss
    )
    real = training(teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), sgd(0.02), epochs=16)
    tanh = training(digits, "classes", lambda: _Rounding(rounds=False), sgd(0.2 * 1e6), epochs=16, loss=_small_loss)
    table = training(
        tabular,
        "real",
        lambda: fitted(mlp((10, 48, 48, 1))),
        sgd(1e-3, 0.9),
        epochs=100,
        loss=_cast_loss,
        judged=False,
    )
    return (
        sick(
            "precision_half_forward",
            "Linear layers compute in float16 while the loss is scaled to a millionth: gradients round to zero.",
            images,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.UNDERFLOW),
            causes=_PRECISION,
            model=seeded(lambda: _halved(fitted(mlp((64, 48, 48, 10))))),
        ),
        sick(
            "precision_autocast_half",
            "float16 autocast without a loss scale, on a loss scaled to a millionth.",
            images,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.UNDERFLOW),
            causes=_PRECISION,
            precision=torch.float16,
        ),
        sick(
            "precision_gradient_rounded",
            "A custom backward rounds the gradient at the features to float16, far below its smallest number.",
            tanh,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.UNDERFLOW),
            causes=_PRECISION,
            modules=("body",),
            model=seeded(lambda: _Rounding(rounds=True)),
        ),
        sick(
            "precision_bfloat16_weights",
            "Weights kept in bfloat16 under small steps: most updates are smaller than the last bit.",
            table,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.UNDERFLOW),
            causes=(Cause.PRECISION, Cause.LEARNING_RATE),
            model=seeded(lambda: fitted(mlp((10, 48, 48, 1))).to(torch.bfloat16)),
        ),
        sick(
            "precision_loss_overflows",
            "The squared errors are summed in float16, which ends at 65504.",
            real.with_(loss=_sum_in_full),
            conditions=(_C.NON_FINITE,),
            causes=_PRECISION,
            loss=_sum_in_half,
        ),
    )
