"""Where rows are kept: the interface, and the one that keeps them in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from graddoctor.recording.track import Event, Floats, Track

Row = tuple[int, Floats]
Scalar = tuple[str, int, float]


class Store(Protocol):
    """What a `Recording` asks of the place where it keeps things. Every write is one call for many things."""

    def write(self, rows: Sequence[Row], scalars: Sequence[Scalar], events: Sequence[Event]) -> None:
        """Keep rows (replacing those of the same step), scalars and events."""
        ...

    def add_tracks(self, tracks: Sequence[Track]) -> None:
        """Append tracks."""
        ...

    def describe(self, key: str, value: Any) -> None:
        """Keep something that JSON can hold under a key."""
        ...

    def tracks(self, skip: int) -> list[Track]:
        """Return the tracks after the first ``skip``."""
        ...

    def steps(self, since: int) -> list[int]:
        """Return the steps greater than ``since``, ascending."""
        ...

    def rows(self, steps: Sequence[int]) -> Iterable[Row]:
        """Return the rows of these steps (ascending) that exist."""
        ...

    def scalars(self, name: str) -> list[tuple[int, float]]:
        """Return step and value of one scalar, ascending."""
        ...

    def scalar_names(self) -> list[str]:
        """Return the names of all scalars."""
        ...

    def events(self) -> list[Event]:
        """Return all events in the order in which they were written."""
        ...

    def metadata(self) -> dict[str, Any]:
        """Return all that was described."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class MemoryStore:
    """Rows in memory, thinned when they grow beyond ``limit`` bytes: of the older half every second one is dropped.

    So a long run keeps its newest steps in full and its past ever more coarsely, at a bounded cost.
    """

    def __init__(self, limit: int = 256_000_000) -> None:
        self._limit = limit
        self._bytes = 0
        self._steps: list[int] = []
        self._rows: dict[int, Floats] = {}
        self._tracks: list[Track] = []
        self._scalars: dict[str, dict[int, float]] = {}
        self._events: list[Event] = []
        self._metadata: dict[str, Any] = {}

    def write(self, rows: Sequence[Row], scalars: Sequence[Scalar], events: Sequence[Event]) -> None:
        """See `Store.write`."""
        for step, values in rows:
            old = self._rows.get(step)
            if old is None:
                self._steps.insert(bisect_left(self._steps, step), step)
            self._bytes += values.nbytes - (0 if old is None else old.nbytes)
            self._rows[step] = values
        for name, step, value in scalars:
            self._scalars.setdefault(name, {})[step] = value
        self._events.extend(events)
        while self._bytes > self._limit and len(self._steps) > 3:  # noqa: PLR2004  # nothing left to thin
            self._thin()

    def _thin(self) -> None:
        half = len(self._steps) // 2
        dropped = self._steps[1:half:2] or self._steps[:1]  # step 0 stays
        for step in dropped:
            self._bytes -= self._rows.pop(step).nbytes
        self._steps = sorted(self._rows)

    def add_tracks(self, tracks: Sequence[Track]) -> None:
        """See `Store.add_tracks`."""
        self._tracks.extend(tracks)

    def describe(self, key: str, value: Any) -> None:
        """See `Store.describe`."""
        self._metadata[key] = value

    def tracks(self, skip: int) -> list[Track]:
        """See `Store.tracks`."""
        return self._tracks[skip:]

    def steps(self, since: int) -> list[int]:
        """See `Store.steps`."""
        return self._steps[bisect_right(self._steps, since) :]

    def rows(self, steps: Sequence[int]) -> Iterable[Row]:
        """See `Store.rows`."""
        return [(step, self._rows[step]) for step in steps if step in self._rows]

    def scalars(self, name: str) -> list[tuple[int, float]]:
        """See `Store.scalars`."""
        return sorted(self._scalars.get(name, {}).items())

    def scalar_names(self) -> list[str]:
        """See `Store.scalar_names`."""
        return sorted(self._scalars)

    def events(self) -> list[Event]:
        """See `Store.events`."""
        return list(self._events)

    def metadata(self) -> dict[str, Any]:
        """See `Store.metadata`."""
        return dict(self._metadata)

    def close(self) -> None:
        """Nothing to let go of."""
