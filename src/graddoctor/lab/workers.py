"""Where runs of experiments take place: in this process, in others, or on Ray; all give the same numbers."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Literal, Self

from typing_extensions import override

from graddoctor.lab.table import Arm, Measured
from graddoctor.prove.processes import without_main
from graddoctor.prove.ray_tasks import connect, imported_ray, thread_environment
from graddoctor.prove.travel import packed, unpacked
from graddoctor.randomness import seeded
from graddoctor.threads import computing_with

Performed = tuple[Measured, float]
"""What a run gave, and the seconds of computing that it took."""


@dataclass(frozen=True)
class Run:
    """One arm of an experiment under one seed."""

    measure: Callable[..., Measured]
    arm: Arm
    seed: int


def perform(run: Run) -> Performed:
    """Measure on one thread; other numbers of threads would give other bits."""
    began = time.process_time()
    with computing_with(1), seeded(run.seed):
        measured = run.measure(seed=run.seed, **run.arm)
    return measured, time.process_time() - began


def _perform_packed(message: bytes) -> Performed:
    return perform(unpacked(message))


class Workers:
    """Performs runs in this process, as they are submitted."""

    def submit(self, run: Run) -> Future[Performed]:
        """Have a run performed."""
        future: Future[Performed] = Future()
        try:
            future.set_result(perform(run))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        """End, and give up what waits or runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


class ProcessWorkers(Workers):
    """Performs runs in other processes of this machine."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_deaf)

    @override
    def submit(self, run: Run) -> Future[Performed]:
        try:
            message = packed(run)
        except Exception:  # noqa: BLE001 - what cannot be pickled is measured here
            return super().submit(run)
        with without_main():  # which processes start as they are needed
            return self._pool.submit(_perform_packed, message)

    @override
    def shutdown(self) -> None:
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 - Python 3.14 has kill_workers for it
            process.kill()
        self._pool.shutdown(cancel_futures=True)


class RayWorkers(Workers):
    """Performs runs on Ray, on one machine or many."""

    def __init__(self, address: str | Literal[True]) -> None:
        self._ray = imported_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            connect(self._ray, address)
        self._perform = self._ray.remote(_perform_packed).options(
            num_cpus=1, runtime_env={"env_vars": thread_environment()}
        )
        self._running: list[Any] = []

    @override
    def submit(self, run: Run) -> Future[Performed]:
        reference = self._perform.remote(packed(run, far=True))
        self._running.append(reference)
        future: Future[Performed] = reference.future()
        return future

    @override
    def shutdown(self) -> None:
        for reference in self._running:
            with suppress(Exception):
                self._ray.cancel(reference, force=True)
        if self._started and self._ray.is_initialized():
            self._ray.shutdown()


def finished(staff: Workers, runs: Sequence[Run]) -> Iterator[tuple[int, Future[Performed]]]:
    """Have runs performed, and give each as it is done: its place among them, and what holds its result."""
    waiting: dict[Future[Performed], int] = {}
    for place, run in enumerate(runs):
        future = staff.submit(run)
        if future.done():
            yield place, future
        else:
            waiting[future] = place
    for future in as_completed(waiting):
        yield waiting[future], future


def hired(workers: int, *, ray: str | bool) -> Workers:
    """Get the workers that were asked for.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    TrialsError
        The cluster cannot be reached.
    """
    if ray:
        return RayWorkers(ray)
    return ProcessWorkers(workers) if workers else Workers()


def _deaf() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; who asked for the work decides
