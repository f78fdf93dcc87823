"""Losses that say something else than was meant: scaled away, summed, broadcast, masked."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Tensors, blobs, digits, tabular, teacher
from graddoctor.testing._nets import Functional, cnn, fitted, mlp
from graddoctor.testing._patient import Loss, Patient, plain_loss, sgd, sick, training

_C = Condition
_LOSS = (Cause.LOSS,)
_LOSS_OR_RATE = (Cause.LOSS, Cause.LEARNING_RATE)


def _times(inner: Loss, factor: float) -> Loss:
    return lambda model, batch: factor * inner(model, batch)


def _broadcast(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    errors: torch.Tensor = model(points) - target[:, 0]  # (n, 1) - (n,): every output against every target
    return errors.square().mean()


def _cooled(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    return functional.cross_entropy(model(images) / 1000, labels)


def _one_against_all(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    return functional.binary_cross_entropy_with_logits(model(images), functional.one_hot(labels, 10).float())


def _rounded(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    output: torch.Tensor = model(points)
    return ((output.round() - target) ** 2).mean()


def _saturated_huber(model: nn.Module, batch: Tensors) -> torch.Tensor:
    points, target = batch
    errors: torch.Tensor = model(points) - target - 6
    return (1 - torch.exp(-0.5 * (4 * errors) ** 2)).mean()


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    images = training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 10))), sgd(0.05), epochs=10)
    maps = training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=8)
    clouds = training(blobs, "classes", lambda: fitted(mlp((16, 48, 48, 6))), sgd(0.1), epochs=8)
    real = training(teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), sgd(0.02), epochs=16)
    table = training(tabular, "real", lambda: fitted(mlp((10, 48, 48, 1))), sgd(0.05, 0.9), epochs=20)
    bare = training(
        digits, "classes", lambda: Functional((64, 64, 64, 10), torch.tanh, lambda n: n**-0.5), sgd(0.1), epochs=10
    )
    singles = training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 10))), sgd(0.3, 0.9), epochs=10, judged=False)
    return (
        sick(
            "loss_divided",
            "The loss is divided by a million under SGD.",
            images,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_LOSS_OR_RATE,
            loss=_times(plain_loss("classes"), 1e-6),
        ),
        sick(
            "loss_divided_functional",
            "A functional network whose loss is divided by the number of its weights.",
            bare,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_LOSS_OR_RATE,
            loss=_times(plain_loss("classes"), 1 / 8832),
        ),
        sick(
            "loss_summed",
            "The squared error is summed over a batch of 64 at a rate meant for means.",
            real,
            conditions=(_C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.NON_FINITE),
            causes=_LOSS_OR_RATE,
            loss=lambda model, batch: functional.mse_loss(model(batch[0]), batch[1], reduction="sum"),
        ),
        sick(
            "loss_summed_cnn",
            "Cross entropy summed over the batch of a CNN, times 3 for a class weight.",
            maps,
            conditions=(_C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.NON_FINITE),
            causes=_LOSS_OR_RATE,
            loss=lambda model, batch: 3 * functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"),
        ),
        sick(
            "loss_broadcast",
            "Outputs (n, 1) minus targets (n): every output is pulled to the mean of all targets.",
            table,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU),
            causes=_LOSS,
            loss=_broadcast,
        ),
        sick(
            "loss_temperature",
            "Logits are divided by 1000 inside the loss.",
            clouds,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_LOSS_OR_RATE,
            loss=_cooled,
        ),
        sick(
            "loss_rounded",
            "Outputs are rounded before the squared error; what is left of the gradient is zero.",
            real,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=(Cause.LOSS, Cause.GRAPH),
            loss=_rounded,
        ),
        sick(
            "loss_flat_tails",
            "A bounded robust loss whose outputs all start in its flat tail.",
            real.with_(evaluate=None),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_LOSS,
            loss=_saturated_huber,
        ),
        sick(
            "loss_weight_tiny",
            "A weight of 0.00001 on a loss of one class against all others.",
            singles.with_(loss=_one_against_all),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_LOSS_OR_RATE,
            loss=_times(_one_against_all, 1e-5),
        ),
    )
