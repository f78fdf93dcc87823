"""Under what circumstances a recording was made."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from graddoctor.version import __version__


def environment() -> dict[str, Any]:
    """Return versions, machine and time, in what JSON can hold.

    Examples
    --------
    >>> sorted(environment())
    ['cpus', 'graddoctor', 'machine', 'numpy', 'platform', 'processor', 'python', 'time', 'torch']
    """
    return {
        "graddoctor": __version__,
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "cpus": os.cpu_count(),
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
