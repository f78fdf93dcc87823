"""Recurrent networks with nothing wrong inside: the rate, the clip, or the numbers that go in are."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from graddoctor.recipe import Recipe
from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import Task
from graddoctor.testing._patient import Patient, adam, batches, score, sgd, sick, training
from graddoctor.testing._recurrent_nets import Reader, clipped
from graddoctor.testing._recurrent_twins import by_lstm
from graddoctor.testing._sequences import rows

_C = Condition


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_rates(), *_numbers())


@cache
def _by_rows() -> Recipe:
    return training(rows, "classes", lambda: Reader("tanh", 8, outputs=10), sgd(0.05, 0.9), epochs=10, clip=clipped())


def _rates() -> tuple[Patient, ...]:
    return (
        sick(
            "recurrent_rate_high",
            "An LSTM with open forget gates at six thousand times its rate; at a hundred it recovers by luck.",
            by_lstm(),
            conditions=(
                _C.LEARNING_RATE_TOO_HIGH,
                _C.OSCILLATION,
                _C.PLATEAU,
                _C.SATURATION,
            ),
            causes=(Cause.LEARNING_RATE,),
            optimizer=adam(30.0),
        ),
        sick(
            "recurrent_rate_low",
            "An LSTM with open forget gates at a five-hundredth of its rate.",
            by_lstm(),
            conditions=(
                _C.LEARNING_RATE_TOO_LOW,
                _C.PLATEAU,
            ),
            causes=(Cause.LEARNING_RATE,),
            optimizer=adam(1e-5),
        ),
        sick(
            "recurrent_clip_tiny",
            "The gradient of a sound tanh cell is clipped to a thousandth of its size.",
            _by_rows(),
            conditions=(
                _C.LEARNING_RATE_TOO_LOW,
                _C.PLATEAU,
            ),
            causes=(Cause.CLIPPING, Cause.LEARNING_RATE),
            clip=clipped(1e-3),
        ),
    )


def _raw() -> Task:
    """Return the digits, row by row, with pixels up to 255."""

    def widened(columns: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pixels, labels = columns
        lowest, highest = rows().inputs.min(), rows().inputs.max()
        return 255 * (pixels - lowest) / (highest - lowest), labels

    task = rows()
    return Task(widened(task.train), widened(task.test), "classes")


def _numbers() -> tuple[Patient, ...]:
    raw: dict[str, Any] = {"batches": batches(_raw, 64), "evaluate": score(_raw)}
    return (
        sick(
            "recurrent_pixels_raw",
            "Pixels up to 255 pin a tanh cell at every step, and nothing comes back through it.",
            _by_rows(),
            conditions=(
                _C.PLATEAU,
                _C.RECURRENT_VANISHING,
                _C.SATURATION,
                _C.UNSCALED_INPUT,
            ),
            causes=(Cause.INPUT_SCALE,),
            **raw,
        ),
    )
