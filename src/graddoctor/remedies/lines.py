"""Which line of the user's own code makes a call."""

from __future__ import annotations

import inspect

from graddoctor.tracebacks import is_users, shorten


def users_line() -> str:
    """Return ``"net.py:12"`` for the innermost frame that is neither graddoctor's nor a library's; ``""`` for none."""
    frame = inspect.currentframe()
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{shorten(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
