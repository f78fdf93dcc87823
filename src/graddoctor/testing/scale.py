"""Inputs and targets out of scale: in the data, in the loader, or by a factor inside forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Task, Tensors, digits, tabular, teacher
from graddoctor.testing._nets import Fn, ResidualMLP, cnn, fitted, mlp
from graddoctor.testing._patient import Patient, adam, batches, score, seeded, sgd, sick, training

_C = Condition
_INPUT = (Cause.INPUT_SCALE,)
_TARGET = (Cause.TARGET_SCALE,)
Change = Callable[[torch.Tensor], torch.Tensor]


def _same(column: torch.Tensor) -> torch.Tensor:
    return column


def changed(task: Callable[[], Task], inputs: Change = _same, target: Change = _same) -> Callable[[], Task]:
    """Return the task with its inputs or its target put through a function, in training and validation alike."""

    def apply(columns: Tensors) -> Tensors:
        return (*(inputs(column) for column in columns[:-1]), target(columns[-1]))

    def build() -> Task:
        plain = task()
        return Task(apply(plain.train), apply(plain.test), plain.kind)

    return build


def _parts(task: Callable[[], Task]) -> dict[str, Any]:
    return {"batches": batches(task, 64), "evaluate": score(task)}


def _column(index: int, factor: float, offset: float = 0.0) -> Change:
    def change(points: torch.Tensor) -> torch.Tensor:
        points = points.clone()
        points[:, index] = points[:, index] * factor + offset
        return points

    return change


def _missing(points: torch.Tensor) -> torch.Tensor:
    gaps = torch.rand(points.shape, generator=torch.Generator().manual_seed(18)) < 0.04
    return torch.where(gaps, torch.full_like(points, -999.0), points)


def _table_net(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return fitted(mlp((10, 48, 48, 1), act), "relu" if act is nn.ReLU else "tanh")


@dataclass(frozen=True)
class _ByteBatches:
    """A loader that hands out bytes as floats, as image readers do."""

    inner: Iterable[Tensors]

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Tensors]:
        for images, labels in self.inner:
            yield images * 255, labels


def _byte_loader(seed: int = 0) -> _ByteBatches:
    return _ByteBatches(batches(digits, 64)(seed))


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_images(), *_tables(), *_targets())


def _images() -> tuple[Patient, ...]:
    tanh = training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 10), nn.Tanh), "tanh"), sgd(0.05))
    relu = training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 64, 10))), sgd(0.05))
    conv = training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=8)

    def pixels() -> Task:
        return digits(standardised=False)

    return (
        sick(
            "input_pixels_tanh",
            "Pixels from 0 to 255 go straight into a tanh layer.",
            tanh,
            conditions=(_C.OSCILLATION, _C.SATURATION, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(pixels),
        ),
        sick(
            "input_pixels_cnn",
            "A CNN is fed pixels from 0 to 255 at the rate that suits standardised ones.",
            conv,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(pixels),
        ),
        sick(
            "input_loader_bytes",
            "The loader multiplies standardised images by 255 on their way to the network.",
            relu,
            conditions=(
                _C.DEAD_UNITS,
                _C.EXPLODING,
                _C.LEARNING_RATE_TOO_HIGH,
                _C.NON_FINITE,
                _C.POOR_INITIALIZATION,
                _C.UNSCALED_INPUT,
            ),
            causes=(Cause.INPUT_SCALE, Cause.LEARNING_RATE),
            batches=_byte_loader,
            evaluate=score(changed(digits, lambda x: x * 255)),
        ),
        sick(
            "input_factor_in_forward",
            "The data are fine, but forward begins with x * 200.",
            training(
                digits, "classes", lambda: fitted(ResidualMLP(64, 32, 10, blocks=3, norm=False, scale=0.5)), sgd(0.03)
            ),
            conditions=(
                _C.EXPLODING,
                _C.LEARNING_RATE_TOO_HIGH,
                _C.NON_FINITE,
                _C.POOR_INITIALIZATION,
                _C.UNSCALED_INPUT,
            ),
            causes=(Cause.INPUT_SCALE, Cause.INITIALIZATION, Cause.LEARNING_RATE),
            modules=("0",),
            model=seeded(
                lambda: nn.Sequential(
                    Fn(lambda x: 200 * x), fitted(ResidualMLP(64, 32, 10, blocks=3, norm=False, scale=0.5))
                )
            ),
        ),
        sick(
            "input_tiny",
            "Images shrunk to a ten-thousandth: all samples look alike to the first layer.",
            relu,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(changed(digits, lambda x: x * 1e-4)),
        ),
    )


def _tables() -> tuple[Patient, ...]:
    relu = training(tabular, "real", _table_net, sgd(0.03, 0.9), epochs=16)
    tanh = training(tabular, "real", lambda: _table_net(nn.Tanh), sgd(0.03, 0.9), epochs=30)
    return (
        sick(
            "input_one_column",
            "One of ten columns is ten thousand times larger than the others, as grams among tonnes.",
            tanh,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.SATURATION, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(changed(tabular, _column(6, 1e4))),
        ),
        sick(
            "input_offset",
            "All columns sit at 100 with a spread of one, as years or temperatures do.",
            relu,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(changed(tabular, lambda x: x + 100)),
        ),
        sick(
            "input_missing_values",
            "Missing values are written as -999.",
            relu,
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION, _C.UNSCALED_INPUT),
            causes=_INPUT,
            **_parts(changed(tabular, _missing)),
        ),
    )


def _targets() -> tuple[Patient, ...]:
    sized = training(teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), sgd(0.03, 0.9))
    with_adam = training(teacher, "real", lambda: fitted(mlp((12, 48, 48, 1))), adam(3e-3))

    return (
        sick(
            "target_thousands_sgd",
            "Prices of spread 1000 under the squared error: the first steps blow the network up.",
            sized,
            conditions=(_C.EXPLODING, _C.NON_FINITE),
            causes=_TARGET,
            **_parts(changed(teacher, target=lambda y: 1000 * y)),
        ),
        sick(
            "target_thousands_adam",
            "Targets of spread 100000: Adam's steps of a fixed size never get there.",
            with_adam,
            conditions=(_C.EXPLODING, _C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=(Cause.TARGET_SCALE, Cause.LEARNING_RATE),
            **_parts(changed(teacher, target=lambda y: 1e5 * y)),
        ),
        sick(
            "target_offset",
            "Targets of spread one around 500: all effort goes into the offset.",
            with_adam,
            conditions=(_C.EXPLODING, _C.POOR_INITIALIZATION),
            causes=_TARGET,
            **_parts(changed(teacher, target=lambda y: y + 500)),
        ),
    )
