"""What a recording is made of: tracks (which number is which), events, tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graddoctor.recording.stage import Stage

Floats = NDArray[np.float32]
Steps = NDArray[np.int64]
Key = tuple[str, Stage]


@dataclass(frozen=True)
class Track:
    """One tensor at one stage, and which statistics are kept of it, in the order in which a row holds them.

    Attributes
    ----------
    name
        Of the tensor: qualified name of a parameter (``"layers.0.weight"``) or of a module (``"layers.0.act"``).
    stage
        Where in its life it is read.
    module
        Qualified name of the module it belongs to (``""``: the root).
    statistics
        Names of the numbers kept a step, such as ``("norm", "zeros")``.
    shape, dtype
        Of the tensor when it was first seen.
    kind
        What makes it, such as ``"linear"`` or ``"relu"``; ``"parameter"`` for a parameter.
    aliases
        Other names of the same tensor (tied weights).
    """

    name: str
    stage: Stage
    module: str
    statistics: tuple[str, ...]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    kind: str = "parameter"
    aliases: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Name and stage: what tells two tracks apart."""
        return self.name, self.stage


@dataclass(frozen=True)
class Event:
    """Something that happened at a step, such as ``"skipped step"`` or ``"fault"``."""

    step: int
    kind: str
    message: str


class Table(NamedTuple):
    """One statistic of all tensors of a stage: ``matrix[i, j]`` for ``names[j]`` at ``steps[i]``; NaN: not read."""

    steps: Steps
    names: tuple[str, ...]
    matrix: Floats


class Series(NamedTuple):
    """One number over the steps at which it was recorded."""

    steps: Steps
    values: NDArray[np.float64]


class Layout:
    """Which column of a row belongs to which track: tracks are only ever appended, so older rows are merely shorter."""

    def __init__(self, tracks: Iterable[Track] = ()) -> None:
        self.tracks: list[Track] = []
        self.width = 0
        self._start: dict[Key, int] = {}
        self._index: dict[Key, int] = {}
        for track in tracks:
            self.add(track)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __getitem__(self, key: Key) -> Track:
        return self.tracks[self._index[key]]

    def add(self, track: Track) -> None:
        """Give a new track the columns after the last."""
        self._index[track.key] = len(self.tracks)
        self._start[track.key] = self.width
        self.tracks.append(track)
        self.width += len(track.statistics)

    def span(self, key: Key) -> slice:
        """Return the columns of one track."""
        start = self._start[key]
        return slice(start, start + len(self[key].statistics))

    def column(self, key: Key, statistic: str) -> int:
        """Return the column of one statistic of one track; ``KeyError`` if it is not kept."""
        names = self[key].statistics
        if statistic not in names:
            raise KeyError(statistic)
        return self._start[key] + names.index(statistic)


def combine(old: Floats, new: Floats) -> Floats:
    """Lay ``new`` over ``old``: where ``new`` says nothing (NaN, or is shorter), ``old`` stays.

    Examples
    --------
    >>> combine(np.array([1, 2, 3], "f4"), np.array([np.nan, 5], "f4")).tolist()
    [1.0, 5.0, 3.0]
    """
    result = np.full(max(len(old), len(new)), np.nan, dtype=np.float32)
    result[: len(old)] = old
    said = ~np.isnan(new)
    result[: len(new)][said] = new[said]
    return result
