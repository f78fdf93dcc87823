"""What is read off a network at intervals, while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from typing_extensions import override

from graddoctor.train import Observer

Reading = TypeVar("Reading")


class Every(Observer, Generic[Reading]):
    """Looks on, as in ``gd.train(recipe, observer=…)``, and reads something every so many steps, before the step.

    Parameters
    ----------
    steps
        How far apart the readings are; the first is taken before the first step.
    read
        ``(model, batch) -> `` what is kept in ``readings``. It must change nothing.
    """

    def __init__(self, steps: int, read: Callable[[nn.Module, Any], Reading]) -> None:
        self.steps, self.read = steps, read
        self.readings: list[Reading] = []

    @override
    def before_step(self, step: int, model: nn.Module, batch: Any) -> None:
        if step % self.steps == 0:
            with torch.no_grad():
                self.readings.append(self.read(model, batch))
