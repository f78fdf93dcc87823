"""Which line of the user's own code makes a call."""

from __future__ import annotations

import inspect

from graddoctor.tracebacks import is_users, shorten

_CALLS_USERS = frozenset({"loss_of", "network_of"})  # what stands outside of these did not make the call


def users_line() -> str:
    """Return ``"net.py:12"`` for the innermost frame, within a recipe's loss or builder, that is the user's own."""
    frame = inspect.currentframe()
    while frame is not None:
        users = is_users(frame.f_code.co_filename)
        if users or frame.f_code.co_name in _CALLS_USERS:
            return f"{shorten(frame.f_code.co_filename)}:{frame.f_lineno}" if users else ""
        frame = frame.f_back
    return ""
