"""Batches in the wrong order, of the wrong size, or with something spoilt among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Tensors, batches_of, digits, tabular
from graddoctor.testing._nets import ResidualCNN, cnn, fitted, mlp
from graddoctor.testing._patient import Patient, plain_loss, sgd, sick, training

_C = Condition


def _sorted_batches(size: int) -> Callable[[], Iterable[Tensors]]:
    def loader() -> Iterable[Tensors]:
        inputs, labels = digits().train
        order = labels.argsort(stable=True)
        return batches_of((inputs[order], labels[order]), size, None)

    return loader


def _poisoned(seed: int = 0) -> Iterable[Tensors]:
    points, target = tabular().train
    points = points.clone()
    points[700, 2] = float("nan")
    return batches_of((points, target), 64, seed)


def _tiny_batches(seed: int = 0) -> Iterable[Tensors]:
    return batches_of(digits().train, 2, seed)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    cause = (Cause.BATCHING,)
    return (
        sick(
            "batch_sorted_labels",
            "Unshuffled batches of sorted labels: each class is unlearned while the next one is taught.",
            training(digits, "classes", lambda: fitted(mlp((64, 48, 48, 10))), sgd(0.1), epochs=4, size=16),
            conditions=(_C.OSCILLATION,),
            causes=cause,
            batches=_sorted_batches(16),
        ),
        sick(
            "batch_sorted_cnn",
            "A CNN with momentum on digits in the order of their labels.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.02, 0.9), epochs=6, size=32),
            conditions=(_C.DEAD_UNITS, _C.PLATEAU),
            causes=cause,
            batches=_sorted_batches(32),
        ),
        sick(
            "batch_of_two_norm",
            "BatchNorm on batches of two samples: every unit becomes a sign.",
            training(
                digits, "classes", lambda: fitted(mlp((64, 32, 32, 32, 10), norm=nn.BatchNorm1d)), sgd(0.05), epochs=10
            ),
            conditions=(_C.EXPLODING, _C.PLATEAU),
            causes=(Cause.BATCHING, Cause.NORMALIZATION),
            batches=_tiny_batches,
            epochs=1,
        ),
        sick(
            "batch_sorted_residual_norm",
            "BatchNorm on batches that hold one class each: validation sees other statistics.",
            training(digits, "classes", ResidualCNN, sgd(0.05), epochs=4, size=32),
            conditions=(_C.OSCILLATION,),
            causes=(Cause.BATCHING, Cause.NORMALIZATION),
            batches=_sorted_batches(32),
        ),
        sick(
            "batch_with_nan",
            "One missing value in one of twelve hundred rows is written as nan.",
            training(tabular, "real", lambda: fitted(mlp((10, 48, 48, 1))), sgd(0.05, 0.9), epochs=20, size=64),
            conditions=(_C.NON_FINITE,),
            causes=(Cause.BATCHING, Cause.INPUT_SCALE),
            batches=_poisoned,
            loss=plain_loss("real"),
        ),
    )
