"""What a checkup writes down while it looks on: every step's numbers, and every probe, into a recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import ActivationReading, ParameterReading
from graddoctor.recipe import Recipe
from graddoctor.recording import Recording, Stage, Track, environment
from graddoctor.tracebacks import describe

_GRADIENT = ("norm", "count", "zeros", "nonfinite")
_WEIGHT = ("norm", "count", "sum", "identical")
_UPDATE = ("norm", "unchanged")
_ACTIVATION = ("norm", "input_rms", "count", "zeros", "nonfinite", "spread", "dead", "saturated", "slope")
_ACTIVATION_GRADIENT = ("norm",)

Line = tuple[Track, tuple[float, ...]]


class Logbook:
    """Writes a run into a recording, under the names that `graddoctor.watch` uses too.

    Scalars are ``loss``, ``lr`` (the largest of the groups), ``gradient_norm`` (all gradients as one vector, before
    clipping) and ``clipped_norm``, for every step. Probed steps hold a row: of each parameter the gradient (of the
    first micro-batch, `Stage.RAW`), the weight and the update; of each nonlinearity the activation and its gradient.
    Norms are those of whole tensors; ``zeros`` and ``nonfinite`` are among ``count`` elements.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def begin(self, recipe: Recipe, model: nn.Module, steps: int) -> None:
        """Describe what is about to be trained."""
        self.recording.describe("environment", environment())
        self.recording.describe("modules", {name: type(module).__name__ for name, module in model.named_modules()})
        self.recording.describe("recipe", {"name": recipe.name, "seed": recipe.seed, "steps": steps})

    def steps(self, first: int, **numbers: Sequence[float]) -> None:
        """Log a block of steps, one number a step under each name; of a name that has fewer the last ones are left."""
        for name, values in numbers.items():
            for step, value in enumerate(values, start=first):
                self.recording.log(step, **{name: value})

    def look(self, seen: Probe) -> None:
        """Write what a probe saw, the updates apart: they are known after the step."""
        self._write(seen.step, [*_parameter_lines(seen), *_activation_lines(seen)])

    def updates(self, seen: Probe) -> None:
        """Write how far the step that was probed moved each parameter."""
        self._write(
            seen.step,
            [
                (_track(p, Stage.UPDATE, _UPDATE), (p.update, p.unchanged))
                for p in seen.parameters
                if p.update is not None
            ],
        )

    def ended(self, step: int, how: str) -> None:
        """Note the end of a run, where it is not the one that the recipe asks for."""
        if how != "complete":
            self.recording.event(step, "end", f"the training ended here: {how}")
        self.recording.flush()

    def crashed(self, step: int, error: BaseException) -> None:
        """Note what the user's code raised."""
        self.recording.event(step, "crash", describe(error))
        self.recording.flush()

    def _write(self, step: int, lines: Sequence[Line]) -> None:
        tracks = [track for track, _ in lines]
        self.recording.declare(tracks)
        values = [value for _, numbers in lines for value in numbers]
        self.recording.append([step], [values], self.recording.columns(tracks))


def _parameter_lines(seen: Probe) -> Iterator[Line]:
    for p in seen.parameters:
        count = float(math.prod(p.shape))
        if p.gradient is not None:
            numbers = (p.gradient, count, round(p.gradient_zeros * count), p.gradient_nonfinite)
            yield _track(p, Stage.RAW, _GRADIENT), numbers
        yield _track(p, Stage.WEIGHT, _WEIGHT), (p.norm, count, p.mean * count, p.identical)


def _activation_lines(seen: Probe) -> Iterator[Line]:
    for a in seen.activations:
        count = float(math.prod(a.shape))
        norm = a.output_rms * math.sqrt(count)
        zeros = round(a.zeros * count) if math.isfinite(a.zeros) else math.nan
        sizes = (norm, a.input_rms, count, zeros, a.nonfinite)
        yield _track(a, Stage.ACTIVATION, _ACTIVATION), (*sizes, a.spread, a.dead, a.saturated, a.slope)
        yield _track(a, Stage.ACTIVATION_GRADIENT, _ACTIVATION_GRADIENT), (a.gradient,)


def _track(reading: ParameterReading | ActivationReading, stage: Stage, statistics: tuple[str, ...]) -> Track:
    more: dict[str, Any] = {"kind": reading.kind} if isinstance(reading, ActivationReading) else {}
    if isinstance(reading, ParameterReading):
        more = {"dtype": reading.dtype, "aliases": reading.aliases}
    return Track(reading.name, stage, reading.module, statistics, reading.shape, **more)
