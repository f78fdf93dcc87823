"""Recording: step x tensor x statistic, in memory or in one file, readable while it is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from graddoctor.errors import RecordingError
from graddoctor.recording.sqlite import SqliteStore
from graddoctor.recording.stage import Stage
from graddoctor.recording.store import MemoryStore, Row, Scalar, Store
from graddoctor.recording.track import Event, Floats, Layout, Series, Steps, Table, Track, combine

_ROWS_BUFFERED = 64
_SECONDS_BUFFERED = 1.0


class Recording:
    """What was observed of a training: for every step, float32 statistics of every tensor at every stage of its life.

    ``Recording()`` keeps it in memory (and thins its past beyond 256 MB), `Recording.create` writes one SQLite file,
    `Recording.open` reads such a file, finished or growing. Writers call `declare`, `append` (or `add`), `log`, `event`
    and `describe`; readers `series`, `table`, `scalars` and the properties. Writes are buffered for up to a second.

    Examples
    --------
    >>> recording = Recording()
    >>> recording.add(0, "weight", Stage.RAW, norm=2.0)
    >>> recording.series("weight", Stage.RAW, "norm").values.tolist()
    [2.0]
    """

    def __init__(self, store: Store | None = None, *, writable: bool = True) -> None:
        self._store: Store = MemoryStore() if store is None else store
        self._writable = writable
        self._lock = threading.RLock()
        self._layout = Layout(self._store.tracks(0))
        self._rows: dict[int, Floats] = {}
        self._scalars: list[Scalar] = []
        self._events: list[Event] = []
        self._newest = -1
        self._flushed = time.monotonic()
        self._open = True

    @classmethod
    def create(cls, path: str | PathLike[str], *, overwrite: bool = False) -> Recording:
        """Start a recording in a new file.

        Raises
        ------
        RecordingError
            If the path cannot be written; if there is a file already and ``overwrite`` is not set; if that file is not
            a recording (such a file is never overwritten).
        """
        return cls(SqliteStore.create(Path(path), overwrite=overwrite))

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Recording:
        """Open a recorded file read-only. Every question is answered from what its writer has written until then.

        Raises
        ------
        RecordingError
            If it does not exist, is not a recording, is truncated or damaged, or was written by a newer version.
        """
        return cls(SqliteStore.open(Path(path)), writable=False)

    # Writing

    def declare(self, tracks: Iterable[Track]) -> None:
        """Name what will be recorded. A track that is known already is passed over.

        Raises
        ------
        RecordingError
            If a track of this name and stage was declared with other statistics.
        """
        with self._lock:
            self._writing()
            new = []
            for track in tracks:
                if track.key not in self._layout:
                    self._layout.add(track)
                    new.append(track)
                elif self._layout[track.key].statistics != track.statistics:
                    known = self._layout[track.key].statistics
                    raise RecordingError(f"{track.name} ({track.stage.value}) keeps {known}, not {track.statistics}")
            if new:
                self._store.add_tracks(new)

    def columns(self, tracks: Iterable[Track]) -> Steps:
        """Return where in a row the numbers of these tracks stand, one after the other."""
        spans = [self._layout.span(track.key) for track in tracks]
        return np.concatenate([np.arange(span.start, span.stop) for span in spans] or [np.zeros(0, np.int64)])

    def append(self, steps: Sequence[int], rows: ArrayLike, columns: Steps | None = None) -> None:
        """Record whole rows: ``rows[i]`` are the statistics of all declared tracks (or the first ones) at ``steps[i]``.

        NaN means "not read". A step that was recorded before keeps what the new row does not say. With ``columns``
        (see `columns`) the numbers are of those columns only.
        """
        with self._lock:
            self._writing()
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and no reason to warn
                rows = np.asarray(rows, dtype=np.float32)
            if columns is not None:
                narrow, rows = rows, np.full((len(rows), self._layout.width), np.nan, dtype=np.float32)
                rows[:, columns] = narrow
            for step, values in zip(steps, rows, strict=True):
                if len(values) > self._layout.width:
                    raise RecordingError(f"expected at most {self._layout.width} numbers a row, got {len(values)}")
                old = self._rows.get(int(step))
                self._rows[int(step)] = values.copy() if old is None else combine(old, values)
            self._flush_when_due()

    def add(self, step: int, name: str, stage: Stage, *, module: str = "", **statistics: float) -> None:
        """Record some statistics of one tensor at one step; declares it if need be. For patient writers."""
        with self._lock:
            self.declare([] if (name, stage) in self._layout else [Track(name, stage, module, tuple(statistics))])
            row = np.full(self._layout.width, np.nan, dtype=np.float32)
            for statistic, value in statistics.items():
                try:
                    row[self._layout.column((name, stage), statistic)] = value
                except KeyError:
                    known = ", ".join(self._layout[name, stage].statistics)
                    raise RecordingError(f"{name} ({stage.value}) keeps {known}, not {statistic}") from None
            self.append([step], row[None])

    def log(self, step: int, **scalars: float) -> None:
        """Record numbers that belong to the step and to no tensor, such as ``loss`` and ``lr``."""
        with self._lock:
            self._writing()
            self._scalars.extend((name, step, float(value)) for name, value in scalars.items())
            self._flush_when_due()

    def event(self, step: int, kind: str, message: str) -> None:
        """Record that something happened."""
        with self._lock:
            self._writing()
            self._events.append(Event(step, kind, message))
            self._flush_when_due()

    def describe(self, key: str, value: Any) -> None:
        """Keep something about the whole recording that JSON can hold, such as ``environment`` or ``modules``."""
        with self._lock:
            self._writing()
            self._store.describe(key, value)

    def flush(self) -> None:
        """Hand everything that is buffered to the store."""
        with self._lock:
            self._flushed = time.monotonic()
            if not (self._rows or self._scalars or self._events):
                return
            rows = [self._whole(step, values) for step, values in sorted(self._rows.items())]
            self._store.write(rows, self._scalars, self._events)
            self._newest = max([self._newest, *self._rows])
            self._rows, self._scalars, self._events = {}, [], []

    def _whole(self, step: int, values: Floats) -> Row:
        """Lay a row over the one that was written for this step before, if there is one."""
        for _, old in self._store.rows([step]) if step <= self._newest else ():
            return step, combine(old, values)
        return step, values

    def _flush_when_due(self) -> None:
        late = time.monotonic() - self._flushed > _SECONDS_BUFFERED
        if late or len(self._rows) + len(self._scalars) + len(self._events) >= _ROWS_BUFFERED:
            self.flush()

    def _writing(self) -> None:
        if not (self._writable and self._open):
            raise RecordingError(f"this recording is {'closed' if self._writable else 'open for reading only'}")

    def close(self) -> None:
        """Write what is buffered and end the writing; what was recorded can still be read."""
        with self._lock:
            if self._open:
                self._open = False
                try:
                    self.flush()
                finally:
                    self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    def _refresh(self) -> None:
        if self._writable:
            if self._open:
                self.flush()
            return
        for track in self._store.tracks(len(self._layout.tracks)):
            self._layout.add(track)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tensors and stages, in the order in which they were declared."""
        with self._lock:
            self._refresh()
            return tuple(self._layout.tracks)

    @property
    def steps(self) -> Steps:
        """The recorded steps, ascending."""
        with self._lock:
            self._refresh()
            return np.array(self._store.steps(-1), dtype=np.int64)

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that happened, in order."""
        with self._lock:
            self._refresh()
            return tuple(self._store.events())

    @property
    def metadata(self) -> dict[str, Any]:
        """What was described: ``environment``, ``modules`` and whatever the writer added."""
        with self._lock:
            return self._store.metadata()

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names that `scalars` knows."""
        with self._lock:
            self._refresh()
            return tuple(self._store.scalar_names())

    def scalars(self, name: str) -> Series:
        """Return one scalar over the steps; empty if it was never logged."""
        with self._lock:
            self._refresh()
            pairs = self._store.scalars(name)
        return Series(
            np.array([step for step, _ in pairs], np.int64), np.array([value for _, value in pairs], np.float64)
        )

    def series(self, tensor: str, stage: Stage, statistic: str) -> Series:
        """Return one number of one tensor over the steps at which it was read.

        Raises
        ------
        RecordingError
            If this tensor was not recorded at this stage, or not with this statistic.
        """
        with self._lock:
            self._refresh()
            if (tensor, stage) not in self._layout:
                stages = [track.stage.value for track in self._layout.tracks if track.name == tensor]
                hint = f"it was recorded as {', '.join(stages)}" if stages else "no tensor has this name"
                raise RecordingError(f"{tensor} was not recorded at stage {stage.value}: {hint}")
            if statistic not in self._layout[tensor, stage].statistics:
                known = ", ".join(self._layout[tensor, stage].statistics)
                raise RecordingError(f"{tensor} ({stage.value}) keeps {known}, not {statistic}")
            steps, matrix = self._gather([self._layout.column((tensor, stage), statistic)], -1, None)
        read = ~np.isnan(matrix[:, 0])
        return Series(steps[read], matrix[read, 0].astype(np.float64))

    def table(self, stage: Stage, statistic: str, *, since: int = -1, limit: int | None = None) -> Table:
        """Return one statistic of all tensors of a stage.

        Parameters
        ----------
        since
            Only steps after this one: a live reader asks for what is new.
        limit
            At most about this many steps, evenly spread over those there are; the newest is among them.
        """
        with self._lock:
            self._refresh()
            tracks = [t for t in self._layout.tracks if t.stage is stage and statistic in t.statistics]
            columns = [self._layout.column(track.key, statistic) for track in tracks]
            steps, matrix = self._gather(columns, since, limit)
        return Table(steps, tuple(track.name for track in tracks), matrix)

    def _gather(self, columns: Sequence[int], since: int, limit: int | None) -> tuple[Steps, Floats]:
        steps = self._store.steps(since)
        if limit is not None and len(steps) > limit:
            chosen = np.unique(np.linspace(0, len(steps) - 1, max(limit, 1)).round().astype(int))
            steps = [steps[i] for i in ([-1] if limit == 1 else chosen)]
        index = np.array(columns, dtype=np.int64)
        found, lines = [], []
        for step, values in self._store.rows(steps):
            line = np.full(len(index), np.nan, dtype=np.float32)
            there = index < len(values)
            line[there] = values[index[there]]
            found.append(step)
            lines.append(line)
        matrix = np.array(lines, dtype=np.float32).reshape(len(found), len(index))
        return np.array(found, dtype=np.int64), matrix
