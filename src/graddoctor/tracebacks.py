"""Whose code raised: the user's own frame in a traceback, and the one line that shows it."""

from __future__ import annotations

import functools
import os
import site
import sysconfig
import traceback
from pathlib import Path

SWITCH = "GRADDOCTOR_TRACEBACK"
"""Environment variable: set to 1, every error comes with its traceback."""

_LONGEST = 300  # characters of an exception's message that still make one readable line

_LIBRARIES = tuple(
    f"{os.path.realpath(path)}{os.sep}"
    for path in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_HERE = f"{Path(__file__).resolve().parent}{os.sep}"


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame that is neither graddoctor's nor a library's, or ``None`` where there is none."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame for frame in frames if is_users(frame.filename)), None)


def describe(error: BaseException) -> str:
    """Return ``"TypeError: message"`` on one line, a long message cut."""
    words = " ".join(str(error).split())
    if len(words) > _LONGEST:
        words = f"{words[:_LONGEST]}…"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return ``"TypeError: message"`` with the first line of the message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def locate(error: BaseException) -> str:
    """Return ``"train.py:12: `net = Net(3)` raised TypeError: message"``: the user's own frame on one line."""
    frame = user_frame(error)
    if frame is None:
        return describe(error)
    source = f" `{frame.line.strip()}`" if frame.line else ""
    return f"{shorten(frame.filename)}:{frame.lineno}:{source} raised {describe(error)}"


def blame(error: BaseException) -> str:
    """Say on one line whose an unexpected exception is: the user's own code's, or graddoctor's."""
    if user_frame(error) is not None:
        return f"{locate(error)} ({SWITCH}=1 shows the whole traceback)"
    return f"a bug in graddoctor, please report it: {describe(error)} (run with {SWITCH}=1 to see where)"


def shorten(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the working directory where it lies below it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@functools.cache  # asked for hundreds of modules, over and over
def is_users(filename: str) -> bool:
    """Whether a source file is the user's own: no library's and not graddoctor's."""
    if filename.startswith("<"):  # <frozen importlib>, <string>; but what was typed into a prompt is the user's
        return filename.startswith(("<stdin", "<python-input", "<ipython-input"))
    real = os.path.realpath(filename)
    return not real.startswith((_HERE, *_LIBRARIES))
