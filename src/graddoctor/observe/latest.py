"""From a recording that a stream wrote to the readings that rules judge: how things stood at the newest steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graddoctor.observe._nonlinear import nonlinearity
from graddoctor.observe.readings import ActivationReading, ParameterReading
from graddoctor.observe.ring import WINDOW
from graddoctor.observe.slab import UNITS
from graddoctor.recording import Recording, Series, Stage, Track

_RENAMED = {"relu6", "selu", "softsign"}  # kinds that are no operator of their own name
_IMAGE_DIMENSIONS = 4  # from here on axis 1 holds the channels
_NEWEST = 16  # steps that readings are taken from: long enough for each exact norm to have come round


class Readings(NamedTuple):
    """What a stream knows at its newest step.

    ``activations`` are the uses of nonlinear modules, ``layers`` those of all other modules that were tapped (their
    ``kind`` is what they compute; they have neither slope nor saturation). ``losses`` is empty if none was logged.
    """

    step: int
    losses: Series
    parameters: tuple[ParameterReading, ...]
    activations: tuple[ActivationReading, ...]
    layers: tuple[ActivationReading, ...]


class _Newest:
    """The newest numbers of every track."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        steps = recording.steps
        self.step = int(steps[-1]) if len(steps) else -1
        self._since = int(steps[-_NEWEST - 1]) if len(steps) > _NEWEST else -1
        self._tables: dict[tuple[Stage, str], dict[str, NDArray[np.float32]]] = {}

    def values(self, track: Track, statistic: str, stage: Stage | None = None) -> NDArray[np.float32]:
        """All that was read of a number at the newest steps, in order."""
        key = (stage or track.stage, statistic)
        if key not in self._tables:
            table = self._recording.table(*key, since=self._since)
            self._tables[key] = dict(zip(table.names, table.matrix.T, strict=True))
        column = self._tables[key].get(track.name, np.zeros(0, dtype=np.float32))
        return column[~np.isnan(column)]

    def last(self, track: Track, statistic: str, stage: Stage | None = None) -> float:
        """Return the newest number, NaN if there is none."""
        values = self.values(track, statistic, stage)
        return float(values[-1]) if len(values) else math.nan

    def mean(self, track: Track, statistic: str, stage: Stage | None = None) -> float:
        """Return the mean over the newest steps, NaN if there is none."""
        values = self.values(track, statistic, stage)
        return float(values.mean(dtype=np.float64)) if len(values) else math.nan

    def share(self, track: Track, statistic: str, stage: Stage | None = None) -> float:
        """Return the share of a count in ``count``, over the newest steps; 0 if nothing was counted."""
        whole = self.values(track, "count", stage).sum(dtype=np.float64)
        return float(self.values(track, statistic, stage).sum(dtype=np.float64) / whole) if whole else 0.0


def latest(recording: Recording) -> Readings:
    """Read how things stood at the newest recorded steps.

    Counts and shares are those of samples, over up to 16 steps; norms of parameters' gradients are exact, those of
    activations' gradients the newest exact one (each has its turn every sixteenth step), all others estimates.

    Parameters
    ----------
    recording
        What `Stream` wrote; it may still be written.
    """
    newest = _Newest(recording)
    tracks = recording.tracks
    parameters = tuple(
        _parameter(track, newest, order)
        for order, track in enumerate(
            t for t in tracks if t.stage in {Stage.RAW, Stage.REDUCED} and "count" in t.statistics
        )
    )
    taps = [track for track in tracks if track.stage is Stage.ACTIVATION and "slope" in track.statistics]
    seen = min(len(recording.steps), WINDOW)
    uses = [_activation(track, newest, order, seen) for order, track in enumerate(taps)]
    nonlinear = [nonlinearity(track.kind, (), {}) is not None or track.kind in _RENAMED for track in taps]
    return Readings(
        step=newest.step,
        losses=recording.scalars("loss"),
        parameters=parameters,
        activations=tuple(use for use, is_one in zip(uses, nonlinear, strict=True) if is_one),
        layers=tuple(use for use, is_one in zip(uses, nonlinear, strict=True) if not is_one),
    )


def _parameter(track: Track, newest: _Newest, order: int) -> ParameterReading:
    gradient, update = newest.last(track, "norm"), newest.last(track, "norm", Stage.UPDATE)
    norm, count = newest.last(track, "norm", Stage.WEIGHT), newest.last(track, "count", Stage.WEIGHT)
    mean = newest.last(track, "sum", Stage.WEIGHT) / count if count else math.nan
    numel = math.prod(track.shape)
    std = math.sqrt(max(norm**2 / numel - mean**2, 0.0)) if numel and math.isfinite(norm) else math.nan
    return ParameterReading(
        name=track.name,
        module=track.module,
        shape=track.shape,
        dtype=track.dtype,
        trainable=True,
        norm=norm,
        mean=mean,
        std=std,
        gradient=None if math.isnan(gradient) else gradient,
        gradient_zeros=newest.share(track, "zeros"),
        gradient_nonfinite=max(int(_or_zero(newest.last(track, "nonfinite"))), int(math.isinf(gradient))),
        identical=_or_zero(newest.last(track, "identical", Stage.WEIGHT)),
        update=None if math.isnan(update) else update,
        unchanged=_or_zero(newest.mean(track, "unchanged", Stage.UPDATE)),
        aliases=track.aliases,
        order=order,
    )


def _activation(track: Track, newest: _Newest, order: int, seen: int) -> ActivationReading:
    gradient = newest.last(track, "exact", Stage.ACTIVATION_GRADIENT)
    if math.isnan(gradient):
        gradient = newest.last(track, "norm", Stage.ACTIVATION_GRADIENT)
    numel = math.prod(track.shape)
    return ActivationReading(
        name=track.name,
        module=track.module,
        kind=track.kind,
        shape=track.shape,
        samples=seen * _sampled_rows(track, _or_zero(newest.last(track, "count"))),
        dead=_or_zero(newest.last(track, "dead")),
        saturated=_or_zero(newest.mean(track, "saturated")),
        slope=newest.mean(track, "slope"),
        zeros=newest.share(track, "zeros"),
        input_rms=newest.mean(track, "input_rms"),
        output_rms=newest.mean(track, "norm") / math.sqrt(numel) if numel else math.nan,
        spread=newest.mean(track, "spread"),
        gradient=gradient,
        nonfinite=int(_or_zero(newest.last(track, "nonfinite"))),
        order=order,
    )


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _sampled_rows(track: Track, count: float) -> int:
    """How many samples (and positions) a slab of ``count`` values holds."""
    if len(track.shape) <= 1:
        return int(count)
    units = track.shape[1] if len(track.shape) >= _IMAGE_DIMENSIONS else track.shape[-1]
    return int(count / min(units, UNITS))
