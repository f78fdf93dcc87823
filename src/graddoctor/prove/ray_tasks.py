"""Ray Core tasks that train on one or many machines; Ray places them, shares out GPUs and tries again what it loses."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from concurrent.futures import CancelledError, Future
from typing import Any, Literal

import torch
from typing_extensions import override

from graddoctor.errors import MissingExtraError, TrialsError
from graddoctor.prove.run_task import run_task
from graddoctor.prove.serial import TaskExecutor
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.prove.travel import Numerics, packed, unpacked
from graddoctor.threads import cores
from graddoctor.tracebacks import first_line

GPU_SHARE = 0.25
"""Share of a GPU that a task asks for: networks that do not train are mostly small ones."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE = 5.0  # seconds in which an address must answer; Ray itself would wait for minutes


class RayTasks(TaskExecutor):
    """Trains on Ray.

    Parameters
    ----------
    address
        ``True``: Ray is started on this machine. ``"auto"``, or an address: a cluster that runs. A Ray that the caller
        has started already is used as it is; only one that was started here is shut down here.
    workers
        So many tasks at a time at most; 0: as many as there is room for.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    TrialsError
        The cluster cannot be reached, or has no room for one task.
    """

    def __init__(self, setting: Setting, address: str | Literal[True], workers: int = 0) -> None:
        self._ray = imported_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            connect(self._ray, address)
        try:
            self._begin(setting, workers)
        except BaseException:
            self.shutdown()
            raise

    def _begin(self, setting: Setting, workers: int) -> None:
        on_gpu = torch.device(setting.recipe.device).type == "cuda"
        room = self._ray.cluster_resources()
        self.slots = int(room.get("CPU", 0) // setting.threads)
        if on_gpu:
            self.slots = min(self.slots, int(room.get("GPU", 0) // GPU_SHARE))
        if not self.slots:
            needed = f"{setting.threads} CPU{' and a GPU' if on_gpu else ''}"
            raise TrialsError(f"Ray has no room for a trial: expected {needed}, got {_told(room)}")
        self.slots = min(self.slots, workers or self.slots)
        self._setting = self._ray.put(packed((setting, Numerics.now()), far=True))
        self._train = self._ray.remote(_train).options(
            num_cpus=setting.threads,
            num_gpus=GPU_SHARE if on_gpu else 0,
            runtime_env={"env_vars": thread_environment()},
        )
        self._running: dict[Future[Result], Any] = {}

    @override
    def submit(self, task: Task, within: float = math.inf) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        reference = self._train.remote(self._setting, packed((task, within), far=True))
        self._running[future] = reference
        reference.future().add_done_callback(lambda answer: self._answer(future, answer))
        return future

    def _answer(self, future: Future[Result], answer: Future[Any]) -> None:
        """Pass on what Ray says: a worker that died for good is an outcome, a recipe that cannot be loaded is none."""
        self._running.pop(future, None)
        errors = self._ray.exceptions
        problem = answer.exception()
        if problem is None:
            result = answer.result()
            if isinstance(result, Result):
                future.set_result(result)
            else:
                future.set_exception(TrialsError(f"a Ray worker cannot load the recipe ({result})"))
        elif isinstance(problem, errors.TaskCancelledError):
            future.set_exception(CancelledError())
        elif isinstance(problem, (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError)):
            future.set_result(Result(ended="died", failed=first_line(problem)))
        else:
            future.set_exception(TrialsError(f"Ray lost a trial ({first_line(problem)})"))

    @override
    def abandon(self) -> None:
        for reference in list(self._running.values()):
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)

    @override
    def shutdown(self, *, cancel_futures: bool = False) -> None:
        super().shutdown(cancel_futures=cancel_futures)
        if self._started and self._ray.is_initialized():
            self._ray.shutdown()


def _train(shared: bytes, message: bytes) -> Result | str:
    """What a Ray worker runs."""
    try:
        setting, numerics = unpacked(shared)
        numerics.apply()
        task, within = unpacked(message)
    except Exception as error:  # noqa: BLE001 - told on the other side
        return first_line(error)
    recipe = setting.recipe
    if torch.device(recipe.device).type == "cuda":  # Ray shows a task its own GPU, and no other
        setting = Setting(recipe.with_(device="cuda"), setting.yardstick, setting.threads, setting.limit)
    return run_task(setting, task, within)


def require_ray(address: str | Literal[True]) -> None:
    """See that Ray is installed, and that somebody listens at an address.

    Raises
    ------
    MissingExtraError, TrialsError
        It is not, or nobody does.
    """
    ray = imported_ray()
    if isinstance(address, str) and not ray.is_initialized():
        try:
            _knock(address)
        except (OSError, OverflowError) as error:
            raise _unreachable(address, error) from error


def imported_ray() -> Any:
    """Import Ray, or say how to install it."""
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


def connect(ray: Any, address: str | Literal[True]) -> None:
    """Start Ray here, or join a cluster.

    Raises
    ------
    TrialsError
        There is none.
    """
    try:
        if isinstance(address, str):
            _knock(address)
        ray.init(
            address="local" if address is True else address,
            log_to_driver=False,
            logging_level="ERROR",
            **({"include_dashboard": False} if address is True else {}),
        )
    except Exception as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | Literal[True], error: Exception) -> TrialsError:
    where = "Ray cannot be started here" if address is True else f"no Ray cluster can be reached at {address!r}"
    return TrialsError(f"{where} ({first_line(error)}): see that it runs, as after  ray start --head")


def _knock(address: str) -> None:
    """See that somebody listens there."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


def thread_environment() -> dict[str, str]:
    """Thread counts of numerical libraries as they are here; Ray would set them to the task's CPUs."""
    told = {name: os.environ[name] for name in _THREADS if name in os.environ}
    return {"OMP_NUM_THREADS": str(cores()), **told}


def _told(room: dict[str, float]) -> str:
    return " and ".join(f"{room.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
