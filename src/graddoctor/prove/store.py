"""Finished trials in a SQLite file, each written at once, so that a search that was killed goes on where it stopped.

=========  ==================================================================================
table      one row is
=========  ==================================================================================
trials     a finished task: ``key``, ``name``, ``seed``, ``steps``, ``sweep``, ``result`` (JSON)
metadata   ``key``, ``value`` (JSON): the fingerprint of the recipe
=========  ==================================================================================
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self

from graddoctor.errors import TrialsError
from graddoctor.prove.fingerprint import Fingerprint, difference, fingerprint
from graddoctor.prove.task import Result, Task
from graddoctor.recipe import Recipe

SCHEMA_VERSION = 1
APPLICATION_ID = 0x67_64_66_78  # "gdfx"

_MAGIC = b"SQLite format 3\x00"
_PATIENCE = 30.0  # seconds to wait for another process that is writing
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS trials (
    key TEXT PRIMARY KEY, name TEXT, seed INTEGER, steps INTEGER, sweep INTEGER, result TEXT
);
CREATE TABLE IF NOT EXISTS metadata (key TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = {SCHEMA_VERSION};
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


class TrialStore:
    """Results of finished tasks, by task; in memory where no file is given.

    Only what would come out the same again is written to the file: a trial that was cut short by time or memory, or
    whose process died, is run again next time.

    Parameters
    ----------
    path
        A file that is made if it is not there, and gone on with if it is.
    recipe
        Whose trials they are: a file of another one is refused. Its network is built and its first batch read.
    threads
        Threads that every task computes with; other numbers of them give other trials.

    Raises
    ------
    TrialsError
        The file cannot be opened or written, is none of ours, is damaged, or holds the trials of another recipe.
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, recipe: Recipe | None = None, *, threads: int = 1
    ) -> None:
        self._memory: dict[str, Result] = {}
        self._connection: sqlite3.Connection | None = None
        if path is None:
            return
        self._path = Path(fspath(path))
        self._made_here = not self._path.exists()
        self._connection = _opened(self._path)
        try:
            mine = fingerprint(recipe, threads) if recipe is not None else {}
            with self._errors("read"):
                self._memory = {key: _decoded(text) for key, text in self._rows()}
                if mine:
                    self._check_recipe(mine)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._memory)

    def get(self, task: Task) -> Result | None:
        """Return what a task gave; ``None`` where it was not run."""
        return self._memory.get(task.key)

    def put(self, task: Task, result: Result) -> None:
        """Keep what a task gave; when this returns it is in the file.

        Raises
        ------
        TrialsError
            It cannot be written: the disk is full, or the file was taken away.
        """
        self._memory[task.key] = result
        if self._connection is None or not result.final:
            return
        row = (task.key, task.name, task.seed, task.steps, task.sweep, _encoded(result))
        with self._errors("written"):
            self._connection.execute("INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file; one that was made here and holds nothing is taken away."""
        if self._connection is None:
            return
        empty = False
        with suppress(sqlite3.Error):
            empty = self._made_here and not self._rows()
        self._connection.close()
        self._connection = None
        if empty:
            remove(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self) -> list[tuple[str, str]]:
        assert self._connection is not None  # noqa: S101 - only called while opening
        return self._connection.execute("SELECT key, result FROM trials").fetchall()

    def _check_recipe(self, mine: Fingerprint) -> None:
        assert self._connection is not None  # noqa: S101 - only called while opening
        rows = [(key, json.dumps(value)) for key, value in mine.items()]
        theirs = {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM metadata")}
        if not theirs or not self._memory:  # nothing is lost of a file that holds no trial
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM metadata")
            self._connection.executemany("INSERT OR REPLACE INTO metadata VALUES (?, ?)", rows)
            self._connection.execute("COMMIT")
        elif what := difference(theirs, mine):
            raise TrialsError(f"{self._path} holds trials of another recipe: {what}; delete it, or choose another file")

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrialsError(f"{self._path} cannot be {doing} ({error}): {_ADVICE[doing]}") from error


def remove(path: Path) -> None:
    """Take a file of trials away, with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


_ADVICE = {
    "read": "it is damaged; delete it, or choose another file",
    "written": "see that the disk has room and the file is still there",
}


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file of ours, or make one.

    Raises
    ------
    TrialsError
        It is none, or nothing can be written there.
    """
    if not path.parent.is_dir():
        raise TrialsError(f"{path} cannot be written: {path.parent} is not a folder; make it first")
    if path.is_dir():
        raise TrialsError(f"{path} is a folder: expected a file, such as {path / 'trials.sqlite'}")
    try:
        _check_header(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)
    except (sqlite3.Error, OSError) as error:
        raise TrialsError(f"{path} cannot be opened ({error}): choose a file that can be written") from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise TrialsError(f"{path} cannot be used ({error}): delete it, or choose another file") from error
    except TrialsError:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    header = path.read_bytes()[: len(_MAGIC)] if path.exists() else b""
    if header and header != _MAGIC:
        raise TrialsError(f"{path} holds no trials: it begins with {header[:8]!r}; choose another file")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (kind,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if kind != APPLICATION_ID and (kind or tables):
        raise TrialsError(f"{path} is a SQLite file of another kind: expected one of trials; choose another file")
    if version > SCHEMA_VERSION:
        raise TrialsError(
            f"{path} was written by a newer graddoctor (format {version}, this one knows {SCHEMA_VERSION})"
        )
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        told = " ".join(problem.split())
        raise TrialsError(f"{path} is damaged ({told}): delete it, or choose another file")
    connection.executescript(_SCHEMA)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # whole after a kill; only a power cut can cost the last rows


def _encoded(result: Result) -> str:
    """JSON, in which numbers that are not finite are strings: JSON has none."""
    plain = {name: _safe(value) for name, value in asdict(result).items()}
    return json.dumps(plain, allow_nan=False)


def _safe(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_safe(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decoded(text: str) -> Result:
    plain: dict[str, Any] = json.loads(text)
    numbers = {field.name for field in fields(Result) if str(field.type).startswith("float")}
    for name in numbers & plain.keys():
        plain[name] = None if plain[name] is None else float(plain[name])
    plain["curve"] = tuple(float(value) for value in plain["curve"])
    return Result(**plain)
