"""The shape of an executor of tasks, and the simplest one: here and now."""

from __future__ import annotations

import math
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from typing_extensions import override

from graddoctor.prove.run_task import run_task
from graddoctor.prove.task import Result, Setting, Task


class TaskExecutor:
    """The shape of a `concurrent.futures.Executor` that is handed tasks instead of functions.

    Attributes
    ----------
    slots
        Tasks that run side by side.
    """

    slots = 1

    def submit(self, task: Task, within: float = math.inf) -> Future[Result]:
        """Have a task trained, within so many seconds if those are fewer than the setting's limit."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Give up whatever is running or waiting; tasks may be submitted again afterwards."""

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        """End. What is running or waiting is finished first, or given up with ``cancel_futures``."""
        if cancel_futures:
            self.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=problem is not None)


class Serial(TaskExecutor):
    """Trains in this process, when a task is submitted; Ctrl-C comes through."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @override
    def submit(self, task: Task, within: float = math.inf) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(run_task(self.setting, task, within))
        return future
