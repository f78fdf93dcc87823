"""One SQLite file in write-ahead mode: one row a step, readable while it is written, whole after a kill.

=========  ====================================================================================================
table      one row is
=========  ====================================================================================================
tracks     a tensor at a stage: ``id`` (order of the columns), ``name``, ``stage``, ``module``, ``details`` (JSON)
steps      a step: ``step``, ``data`` (little-endian float32, the statistics of all tracks one after the other)
scalars    ``name``, ``step``, ``value``
events     ``id``, ``step``, ``kind``, ``message``
metadata   ``key``, ``value`` (JSON)
=========  ====================================================================================================

``PRAGMA user_version`` is the version of this schema, ``PRAGMA application_id`` marks the file as a recording.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from graddoctor.errors import RecordingError
from graddoctor.recording.stage import Stage
from graddoctor.recording.store import Row, Scalar
from graddoctor.recording.track import Event, Track

SCHEMA_VERSION = 1
APPLICATION_ID = 0x67_64_6F_63  # "gdoc"

_MAGIC = b"SQLite format 3\x00"
_HEADER = 100  # bytes that every SQLite file begins with
_SCHEMA = f"""
BEGIN;
CREATE TABLE tracks (id INTEGER PRIMARY KEY, name TEXT, stage TEXT, module TEXT, details TEXT);
CREATE TABLE steps (step INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE scalars (name TEXT, step INTEGER, value REAL, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, step INTEGER, kind TEXT, message TEXT);
CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = {SCHEMA_VERSION};
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


class SqliteStore:
    """A recording's file. `create` writes a new one, `open` reads one that may be growing."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._opened: sqlite3.Connection | None = connection
        self._path = path
        self._process = os.getpid()

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection; after `close` one that reads, opened when somebody asks."""
        if self._opened is None:
            self._opened = _connect_to_read(self._path)
        return self._opened

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> SqliteStore:
        """Start a new file. One that is there is only replaced if it is a recording and ``overwrite`` is set."""
        if path.exists():
            if not overwrite:
                raise RecordingError(f"{path} is there already: choose another path, or pass overwrite=True")
            _check_header(path)
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        if not path.parent.is_dir():
            raise RecordingError(f"{path} cannot be written: {path.parent} is not a folder; make it first")
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            connection.executescript(_SCHEMA)
            connection.execute(
                "PRAGMA journal_mode = WAL"
            )  # after the schema, so that the main file alone tells what it is
            connection.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.Error, OSError) as error:
            raise RecordingError(f"{path} cannot be written ({error}): choose a path in a writable folder") from error
        return cls(connection, path)

    @classmethod
    def open(cls, path: Path) -> SqliteStore:
        """Open a file to read; its writer may be alive, finished or dead."""
        _check_header(path)
        try:
            return cls(_connect_to_read(path), path)
        except sqlite3.Error as error:
            raise RecordingError(
                f"{path} cannot be read ({error}): it is damaged, or was cut off while copied"
            ) from error

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise RecordingError(f"{self._path} cannot be {doing} ({error})") from error

    def write(self, rows: Sequence[Row], scalars: Sequence[Scalar], events: Sequence[Event]) -> None:
        """See `Store.write`; one transaction."""
        if os.getpid() != self._process:
            return  # a forked data loader inherits this object: the file belongs to its parent
        with self._errors("written"):
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT OR REPLACE INTO steps VALUES (?, ?)",
                ((step, values.astype("<f4", copy=False).tobytes()) for step, values in rows),
            )
            self._connection.executemany("INSERT OR REPLACE INTO scalars VALUES (?, ?, ?)", map(_storable, scalars))
            self._connection.executemany(
                "INSERT INTO events (step, kind, message) VALUES (?, ?, ?)",
                ((event.step, event.kind, event.message) for event in events),
            )
            self._connection.execute("COMMIT")

    def add_tracks(self, tracks: Sequence[Track]) -> None:
        """See `Store.add_tracks`."""
        with self._errors("written"):
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT INTO tracks (name, stage, module, details) VALUES (?, ?, ?, ?)",
                ((track.name, track.stage.value, track.module, _details(track)) for track in tracks),
            )
            self._connection.execute("COMMIT")

    def describe(self, key: str, value: Any) -> None:
        """See `Store.describe`."""
        with self._errors("written"):
            self._connection.execute("INSERT OR REPLACE INTO metadata VALUES (?, ?)", (key, json.dumps(value)))

    def tracks(self, skip: int) -> list[Track]:
        """See `Store.tracks`."""
        with self._errors("read"):
            query = "SELECT name, stage, module, details FROM tracks ORDER BY id LIMIT -1 OFFSET ?"
            return [_track(*row) for row in self._connection.execute(query, (skip,))]

    def steps(self, since: int) -> list[int]:
        """See `Store.steps`."""
        with self._errors("read"):
            query = "SELECT step FROM steps WHERE step > ? ORDER BY step"
            return [step for (step,) in self._connection.execute(query, (since,))]

    def rows(self, steps: Sequence[int]) -> Iterable[Row]:
        """See `Store.rows`; steps that follow each other are read in one sweep."""
        if not steps:
            return
        wanted = set(steps)
        with self._errors("read"):
            if len(wanted) < 0.1 * (steps[-1] - steps[0]):  # few of many: look each up
                found: Iterable[Any] = chain.from_iterable(
                    self._connection.execute(f"{_ROW} = ?", (step,)) for step in steps
                )
            else:
                found = self._connection.execute(f"{_ROW} BETWEEN ? AND ? ORDER BY step", (steps[0], steps[-1]))
            for step, data in found:
                if step in wanted:
                    yield step, np.frombuffer(data, dtype="<f4")

    def scalars(self, name: str) -> list[tuple[int, float]]:
        """See `Store.scalars`."""
        with self._errors("read"):
            query = "SELECT step, value FROM scalars WHERE name = ? ORDER BY step"
            return [(step, float(value)) for step, value in self._connection.execute(query, (name,))]

    def scalar_names(self) -> list[str]:
        """See `Store.scalar_names`."""
        with self._errors("read"):
            return [name for (name,) in self._connection.execute("SELECT DISTINCT name FROM scalars ORDER BY name")]

    def events(self) -> list[Event]:
        """See `Store.events`."""
        with self._errors("read"):
            return [
                Event(*row) for row in self._connection.execute("SELECT step, kind, message FROM events ORDER BY id")
            ]

    def metadata(self) -> dict[str, Any]:
        """See `Store.metadata`."""
        with self._errors("read"):
            return {
                key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM metadata")
            }

    def close(self) -> None:
        """Leave one file behind: fold the log in, unless somebody is still reading it."""
        if self._opened is not None:
            with suppress(sqlite3.Error):
                if os.getpid() == self._process:
                    self._opened.execute("PRAGMA journal_mode = DELETE")
            self._opened.close()
            self._opened = None

    def __del__(self) -> None:
        if self._opened is not None and os.getpid() == self._process:
            self._opened.close()


_ROW = "SELECT step, data FROM steps WHERE step"


def _storable(scalar: Scalar) -> Scalar | tuple[str, int, str]:
    """SQLite turns NaN into NULL: write it, and infinities, as text."""
    name, step, value = scalar
    return scalar if np.isfinite(value) else (name, step, str(value))


def _details(track: Track) -> str:
    fields = ("statistics", "shape", "dtype", "kind", "aliases")
    return json.dumps({field: getattr(track, field) for field in fields})


def _track(name: str, stage: str, module: str, details: str) -> Track:
    more: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(details).items()
    }
    return Track(name=name, stage=Stage(stage), module=module, **more)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Connect read-only and look into every table; in a read-only folder a finished file needs ``immutable``."""
    uri = path.resolve().as_uri()
    try:
        return _looked_into(f"{uri}?mode=ro")
    except sqlite3.OperationalError:
        if Path(f"{path}-wal").exists():
            raise
        return _looked_into(f"{uri}?immutable=1")


def _looked_into(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        for table in ("tracks", "steps", "scalars", "events", "metadata"):
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608  # the names stand above
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Tell from its first 100 bytes (https://www.sqlite.org/fileformat.html) what is wrong with a file."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
        size = path.stat().st_size
    except FileNotFoundError:
        raise RecordingError(f"{path}: there is no such recording") from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    if header[:16] != _MAGIC[: len(header)] or not header:
        raise RecordingError(f"{path} is not a recording: expected a SQLite file, got {_kind(header)}")
    if len(header) < _HEADER:
        raise RecordingError(f"{path} is truncated: only {size} bytes are left; copy or record it again")
    (page_size,) = struct.unpack(">H", header[16:18])
    (pages,) = struct.unpack(">I", header[28:32])
    (version,) = struct.unpack(">I", header[60:64])
    (application,) = struct.unpack(">I", header[68:72])
    if application != APPLICATION_ID:
        raise RecordingError(f"{path} is a SQLite file, but not a recording of graddoctor")
    if version > SCHEMA_VERSION:
        raise RecordingError(
            f"{path} was written by a newer graddoctor (schema {version}, this one reads up to {SCHEMA_VERSION}): "
            "pip install --upgrade graddoctor"
        )
    expected = pages * (page_size if page_size > 1 else 65_536)  # 1 stands for 65,536 in the file format
    wal = Path(f"{path}-wal")
    if size < expected and not (wal.exists() and wal.stat().st_size):
        raise RecordingError(f"{path} is truncated: {size} of {expected} bytes are left; copy or record it again")


def _kind(header: bytes) -> str:
    return f"one that begins with {header[:8]!r}" if header else "an empty file"
