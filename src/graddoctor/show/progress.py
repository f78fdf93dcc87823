"""What a checkup or a fix is doing right now, on standard error: after two seconds, and only where somebody looks."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.markup import escape

from graddoctor.show.words import duration

PATIENCE = 2.0
"""Seconds of silence: what is over by then needs no progress bar."""


class Progress:
    """A callback for long work: called with a phase and how far it is, it draws a line on a terminal.

    Works as a context manager, so that the line is gone before anything else is printed.

    Examples
    --------
    >>> with Progress() as progress:
    ...     for step in range(3):
    ...         progress("training", step + 1, 3)
    ...     progress("experiment", 2, 7, "standardised inputs")

    Parameters
    ----------
    console
        Where to; standard error if left out. Nothing is ever shown on a console that is no terminal.
    patience
        Seconds before anything is shown.
    """

    def __init__(self, console: Console | None = None, *, patience: float = PATIENCE) -> None:
        self._console = console or Console(file=sys.stderr)
        self._patience = patience
        self._begun = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        self._phase, self._entered, self._first = "", self._begun, 0

    def __call__(self, phase: str, done: int = 0, total: int | None = None, detail: str = "") -> None:
        """Tell how far a phase is: ``done`` of ``total`` (``None`` or 0: unknown), and what it is at right now."""
        left = self._left(phase, done, total)
        if not self._console.is_terminal or time.monotonic() - self._begun < self._patience:
            return
        bar, task = self._drawn()
        total = total or None
        counted = f" {done}" + (f" of {total}" if total is not None else "") if done or total else ""
        said = f"{phase}{counted}" + (f": {detail}" if detail else "")
        bar.update(task, description=escape(said), completed=done, total=total, left=left)

    def _left(self, phase: str, done: int, total: int | None) -> str:
        """Say how long a phase will go on at the pace that it had so far; empty while that is not known."""
        now = time.monotonic()
        if phase != self._phase or done < self._first:
            self._phase, self._entered, self._first = phase, now, done
        if not total or not self._first < done < total:
            return ""
        seconds = (now - self._entered) * (total - done) / (done - self._first)
        return f"{duration(seconds)} left" if seconds >= 1 else ""

    def _drawn(self) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
        if self._bar is None or self._task is None:
            self._bar = rich.progress.Progress(
                rich.progress.SpinnerColumn(),
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("{task.fields[left]}", style="dim"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, left="")
            self._bar.start()
        return self._bar, self._task

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
