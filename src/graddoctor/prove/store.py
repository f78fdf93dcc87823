"""Finished trials, in memory or in a SQLite file."""

from __future__ import annotations

from os import PathLike
from typing import Any, Self

from graddoctor.prove.task import Result, Task


class TrialStore:
    """Keeps results."""

    def __init__(self, path: str | PathLike[str] | None = None, recipe: Any = None) -> None:
        self._results: dict[str, Result] = {}

    def get(self, task: Task) -> Result | None:
        """Return what a task gave, if it was run."""
        return self._results.get(task.key)

    def put(self, task: Task, result: Result) -> None:
        """Keep what a task gave."""
        self._results[task.key] = result

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
