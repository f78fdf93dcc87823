"""Threads that torch computes with: one number for all that is to be compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with so many threads, and put back afterwards how many there were.

    Another number of threads adds in another order and gives other bits.

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> with computing_with(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
