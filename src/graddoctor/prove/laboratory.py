"""A laboratory: runs tasks, each once, and keeps the record of what they gave."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress

from graddoctor.prove.serial import Serial, TaskExecutor
from graddoctor.prove.store import TrialStore
from graddoctor.prove.task import Result, Setting, Task

PHASE = "trials"
"""What progress calls the work of a laboratory if nobody gives it another name."""

_CUT_SHORT = frozenset({"deadline", "hung"})


class Laboratory:
    """Runs tasks, from the store where they are known; whatever the order of finishing, the record is the same.

    Parameters
    ----------
    executor
        Where tasks are trained; in this process if left out.
    store
        Where results are kept; in memory if left out.
    tell
        Called as ``tell(phase, done, total, detail)`` when a task begins or ends.
    deadline
        ``time.monotonic()``, in seconds, after which no task is begun and those that run are cut short. May be moved.

    Attributes
    ----------
    phase
        What progress calls its work; may be changed from one stage to the next.
    finished
        Every task that was run and its result, in the order in which they were asked for.
    skipped
        Tasks that the deadline left out or cut short.
    steps_spent, seconds_spent
        Training steps and seconds of all finished tasks, of those from the store too: what is decided by them is
        decided alike when a search goes on where it was stopped.
    """

    def __init__(
        self,
        setting: Setting,
        executor: TaskExecutor | None = None,
        store: TrialStore | None = None,
        tell: Callable[..., None] = lambda *_: None,
        *,
        deadline: float = math.inf,
    ) -> None:
        self.setting, self.executor = setting, executor or Serial(setting)
        self.store = TrialStore() if store is None else store  # an empty one is false
        self.tell, self.deadline = tell, deadline
        self.phase = PHASE
        self.finished: list[tuple[Task, Result]] = []
        self.skipped = 0
        self._known: dict[str, Result] = {}

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.deadline

    @property
    def steps_spent(self) -> int:
        """Training steps of all finished tasks."""
        return sum(result.steps for _, result in self.finished)

    @property
    def seconds_spent(self) -> float:
        """Seconds of all finished tasks, one after the other."""
        return sum(result.seconds for _, result in self.finished)

    def run(self, tasks: Sequence[Task]) -> list[Result | None]:
        """Run tasks and return what each gave, in their order.

        Returns
        -------
        One result a task; ``None`` for one that the deadline left out or cut short. A task that is asked for twice is
        run once.

        Raises
        ------
        KeyboardInterrupt
            It was interrupted. What had finished is kept, in `finished` and in the store.
        """
        unique = {task.key: task for task in tasks}
        new = {key: task for key, task in unique.items() if key not in self._known}
        try:
            self._run({key: task for key, task in new.items() if not self._is_stored(key, task)}, len(new))
        finally:
            done = {key: task for key, task in new.items() if key in self._known}
            self.finished += [(task, self._known[key]) for key, task in done.items()]
            self.skipped += len(new) - len(done)
        return [self._known.get(task.key) for task in tasks]

    def _is_stored(self, key: str, task: Task) -> bool:
        result = self.store.get(task)
        if result is not None:
            self._known[key] = result
        return result is not None

    def _run(self, tasks: dict[str, Task], total: int) -> None:
        """Keep as many tasks going as there are slots, and take in what ends."""
        waiting, running = deque(tasks.items()), dict[Future[Result], tuple[str, Task]]()
        done = total - len(tasks)
        try:
            while waiting or running:
                while waiting and len(running) < self.executor.slots and not self.late:
                    key, task = waiting.popleft()
                    self.tell(self.phase, done, total, task.name)
                    running[self.executor.submit(task, self.deadline - time.monotonic())] = key, task
                    done += self._take_in(running)
                if not running:
                    return  # the time is over
                wait(running, return_when=FIRST_COMPLETED)
                done += self._take_in(running)
                self.tell(self.phase, done, total, ", ".join(task.name for _, task in running.values()))
        except BaseException:
            self.executor.abandon()
            with suppress(Exception):  # what is over is kept; what raises is not what was asked for
                self._take_in(running)
            raise

    def _take_in(self, running: dict[Future[Result], tuple[str, Task]]) -> int:
        """Store every result that is there, in the order of submission, and return how many there were."""
        ended = [future for future in running if future.done()]
        for future in ended:
            key, task = running.pop(future)
            result = future.result()
            if result.ended in _CUT_SHORT and self.late:
                continue  # by the deadline, not by the limit: it says nothing
            self._known[key] = result
            self.store.put(task, result)
        return len(ended)
