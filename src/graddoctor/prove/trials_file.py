"""The file of trials that a command line without ``--trials`` uses: there until the fix has come to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graddoctor.prove.store import remove


@dataclass
class TrialsFile:
    """A file of trials (``None``: there is no place for one), and whether they are needed no more."""

    path: Path | None
    finished: bool = False


@contextmanager
def trials_file(wanted: Path | None, target: str) -> Iterator[TrialsFile]:
    """Give a file for trials; one that nobody asked for is there only until the fix has come to its end.

    Parameters
    ----------
    wanted
        The user's own, which stays; ``None``: one in the working directory, named after the target.
    target
        What is treated, as the command line has it: ``FILE``, ``FILE:NAME`` or ``MODULE:NAME``.
    """
    book = TrialsFile(wanted or _default(target))
    try:
        yield book
    finally:
        if wanted is None and book.path is not None and book.finished:
            remove(book.path)


def _default(target: str) -> Path | None:
    file, _, name = target.partition(":")
    stem = Path(file).stem if file.endswith(".py") else Path(file).name
    return Path(f"{stem}-{name}.trials" if name else f"{stem}.trials") if os.access(Path.cwd(), os.W_OK) else None
