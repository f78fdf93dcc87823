"""The only file that touches autograd's private side; ``tests/observe/test_engine.py`` tells when torch changes it.

Gradients are final when the whole backward pass is over, and autograd has no public word for that moment. torch's own
DDP and FSDP use ``queue_callback`` for it, and so does this. DDP queues its last reduction during the same backward
pass: what is queued twice runs after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable


def in_backward() -> bool:
    """Whether this thread runs a backward pass at this moment (as the second forward of a checkpoint does)."""
    return torch._C._current_graph_task_id() != -1  # noqa: SLF001  # see the docstring of this file


def at_end_of_backward(function: Callable[[], None]) -> None:
    """Call ``function`` when the backward pass that is running is over, after all that others queued meanwhile."""
    queue = Variable._execution_engine.queue_callback  # noqa: SLF001  # see the docstring of this file
    queue(lambda: queue(function))


def without_gradients(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with gradients off: ``torch.no_grad`` takes 40 µs where caches are cold, as they are in hooks."""
    if not torch.is_grad_enabled():
        return function(*args)
    torch._C._set_grad_enabled(False)  # noqa: SLF001  # see the docstring of this file
    try:
        return function(*args)
    finally:
        torch._C._set_grad_enabled(True)  # noqa: SLF001  # see the docstring of this file


def is_transformed(tensor: Tensor) -> bool:
    """Whether ``torch.func`` has wrapped this tensor: its values are not to be had."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # noqa: SLF001  # see the docstring of this file


def graph_clock() -> int:
    """The number that the next node of this thread's graph will have; torch's profiler and FX read the same clock."""
    number: int = torch._C._autograd._get_sequence_nr()  # noqa: SLF001  # see the docstring of this file
    return number
