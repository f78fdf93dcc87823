"""Processes that train side by side: each is sent the recipe once, and one that hangs or dies takes one task along."""

from __future__ import annotations

import atexit
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from types import ModuleType

from typing_extensions import override

from graddoctor.errors import TrialsError
from graddoctor.prove.run_task import give_up_after, run_task
from graddoctor.prove.serial import Serial
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.prove.travel import Numerics, packed, unpacked
from graddoctor.tracebacks import first_line

_READY = b""
_PATIENCE = 10.0  # seconds that a worker has to end by itself, and beyond its own guard to end a step that hangs
_START = threading.Lock()


@dataclass(frozen=True)
class _Job:
    message: bytes
    limit: float
    future: Future[Result] = field(default_factory=Future)


class Processes(Serial):
    """Trains in worker processes, each with its own copy of the recipe.

    A task that does not end within the limit is killed with its worker, and so is one whose worker dies, by want of
    memory say; a new worker goes on with the next.
    """

    def __init__(self, setting: Setting, workers: int) -> None:
        super().__init__(setting)
        self.slots = workers
        payload = packed((setting, Numerics.now()))
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lanes = [_Lane(self._jobs, payload) for _ in range(workers)]
        atexit.register(self.abandon)  # or the interpreter waits for them at its end

    @override
    def submit(self, task: Task, within: float = math.inf) -> Future[Result]:
        try:
            message = packed((task, within))
        except Exception:  # noqa: BLE001 - a change that holds what cannot be pickled: there is this process, too
            return super().submit(task, within)
        job = _Job(message, min(self.setting.limit, within))
        self._jobs.put(job)
        return job.future

    @override
    def abandon(self) -> None:
        with suppress(Exception):
            while (job := self._jobs.get_nowait()) is not None:
                job.future.cancel()
        for lane in self._lanes:
            lane.kill()

    @override
    def shutdown(self, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self.abandon()
        for _ in self._lanes:
            self._jobs.put(None)
        for lane in self._lanes:
            lane.join()
        atexit.unregister(self.abandon)


class _Lane(threading.Thread):
    """Takes one task after another to its worker, and gets a new worker where the last one is gone."""

    def __init__(self, jobs: SimpleQueue[_Job | None], payload: bytes) -> None:
        super().__init__(name="graddoctor worker", daemon=True)
        self.jobs, self.payload = jobs, payload
        self.worker: _Worker | None = None
        self.killed = False
        self.start()

    @override
    def run(self) -> None:
        self._hire()
        while (job := self.jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._do(job)
        if self.worker is not None:
            self.worker.stop()

    def kill(self) -> None:
        """Give up what runs."""
        self.killed = True
        if self.worker is not None:
            self.worker.kill()

    def _hire(self) -> _Worker:
        if self.worker is None or not self.worker.alive:
            self.worker = _Worker(self.payload)
        return self.worker

    def _do(self, job: _Job) -> None:
        began = time.perf_counter()
        self.killed = False
        try:
            result = self._hire().run(job.message, job.limit)
        except _Gone as gone:
            self.worker = None
            if self.killed:
                job.future.set_exception(CancelledError())
                return
            result = Result(ended=gone.ended, failed=gone.why, seconds=time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - whoever waits for it must get it
            job.future.set_exception(error)
            return
        job.future.set_result(result)


class _Gone(Exception):  # noqa: N818 - it is no error of ours
    """The worker is no more, and why."""

    def __init__(self, ended: str, why: str) -> None:
        super().__init__(why)
        self.ended, self.why = ended, why


class _Worker:
    """One process at the other end of a pipe."""

    def __init__(self, payload: bytes) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # not a daemon: loaders with workers of their own could not have them
        self._process = context.Process(target=serve, args=(theirs,), name="graddoctor worker")
        with without_main():
            self._process.start()
        theirs.close()
        self._payload: bytes | None = payload

    @property
    def alive(self) -> bool:
        return self._process.exitcode is None

    def run(self, message: bytes, limit: float) -> Result:
        """Have a task trained.

        Raises
        ------
        _Gone
            It hung or died.
        TrialsError
            The recipe or the task could not be taken there.
        """
        if self._payload is not None:
            problem = self._ask(self._payload, math.inf)
            if problem != _READY:
                self.stop()
                raise TrialsError(
                    f"a worker process cannot load the recipe ({problem.decode()}): train without workers"
                )
            self._payload = None
        result: Result = pickle.loads(self._ask(message, limit))  # noqa: S301 - from our own process
        return result

    def _ask(self, message: bytes, limit: float) -> bytes:
        try:
            self._pipe.send_bytes(message)
            timeout = give_up_after(limit) + _PATIENCE if math.isfinite(limit) else None
            if not wait([self._pipe, self._process.sentinel], timeout):
                self.kill()
                raise _Gone("hung", f"no end after {limit:.3g} seconds")
            if self._pipe.poll():  # its last words, if it is dead
                return self._pipe.recv_bytes()
        except (EOFError, OSError):
            pass
        self.kill()
        raise _Gone("died", _epitaph(self._process.exitcode))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """Let it end by itself."""
        self._pipe.close()
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self.kill()


def serve(pipe: Connection) -> None:
    """Live as a worker: load the recipe, then train what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; who asked for the work decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # what is printed beside a report must not get into it
    with suppress(EOFError, OSError):  # nobody wants anything more of it
        payload = pipe.recv_bytes()
        try:
            setting, numerics = unpacked(payload)
            numerics.apply()
        except Exception as error:  # noqa: BLE001 - told on the other side
            pipe.send_bytes(first_line(error).encode())
            return
        pipe.send_bytes(_READY)
        while True:
            pipe.send_bytes(pickle.dumps(_served(setting, pipe.recv_bytes())))


def _served(setting: Setting, message: bytes) -> Result:
    try:
        task, within = unpacked(message)
    except Exception as error:  # noqa: BLE001 - it is lost, the worker is not
        return Result(ended="failed", failed=first_line(error))
    return run_task(setting, task, within)


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 - it was spawned
    wait([parent.sentinel])
    os._exit(1)


def _epitaph(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"the worker process was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    return f"the worker process ended with exit code {code}"


@contextmanager
def without_main() -> Iterator[None]:
    """Start a process that does not run the user's script: one without a guard would start all over in it."""
    with _START:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
