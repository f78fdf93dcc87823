"""Run one task: train what it asks for, within its time, and put whatever happens into a result."""

from __future__ import annotations

import gc
import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from graddoctor.prove.fresh import fresh
from graddoctor.prove.sweep import sweep
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.prove.yardstick import smoothed, window_of, yardstick_of
from graddoctor.recipe import Recipe
from graddoctor.remedies.remedy import Remedy
from graddoctor.threads import computing_with
from graddoctor.tracebacks import first_line
from graddoctor.train import Observer, evaluate, train

CURVE = 64
"""So many losses of a run are kept at most."""

_GRACE = (1.1, 1.0)  # a step may end after the limit by this factor and so many seconds
_AGAIN = 1.0  # seconds after which a step is told again to end: a bare except may have swallowed it
_NOTHING = Remedy("as given", (), lambda recipe: recipe)


def run_task(setting: Setting, task: Task, within: float = math.inf) -> Result:
    """Train the treated recipe under the task's fresh seed; what the user's code raises becomes a result.

    Parameters
    ----------
    within
        Seconds that it may take, if those are fewer than the setting's limit.

    Raises
    ------
    KeyboardInterrupt
        It was interrupted.
    """
    limit = min(setting.limit, within)
    watch = _Watch()
    began = time.perf_counter()
    try:
        with computing_with(setting.threads), _alarm(limit):
            return _run(setting, task, time.monotonic() + limit, watch)
    except _Hung:
        return watch.lost("hung", f"no end after {limit:.3g} seconds", time.perf_counter() - began)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a trial that fails is an outcome
        _free_memory(error)
        return watch.lost("failed", first_line(error), time.perf_counter() - began)


def give_up_after(limit: float) -> float:
    """Return the seconds after which a task that has such a limit cannot still be ending."""
    return _GRACE[0] * limit + _GRACE[1]


def _run(setting: Setting, task: Task, deadline: float, watch: _Watch) -> Result:
    remedy = task.remedy or _NOTHING
    treated = remedy(fresh(setting.recipe, task.seed))
    yardstick = yardstick_of(treated, remedy, setting.yardstick)
    if task.sweep:
        began = time.perf_counter()
        seen = sweep(treated, yardstick, around=remedy.around, deadline=deadline)
        lowest = float(np.min(seen.losses, initial=math.inf))
        record = _record(seen.losses)
        seconds = time.perf_counter() - began
        return Result(progress=yardstick.progress(lowest), loss=lowest, seconds=seconds, best=seen.best, **record)
    guarded, problems = _guarded(treated)
    outcome = train(guarded, steps=task.steps, observer=watch, around=remedy.around, deadline=deadline)
    if outcome.ended == "interrupted":
        raise KeyboardInterrupt
    loss = smoothed(outcome.losses, window_of(outcome.steps_per_epoch, outcome.steps))
    return Result(
        progress=yardstick.progress(loss),
        loss=loss,
        metric=outcome.evaluation,
        seconds=outcome.seconds,
        parameters=watch.parameters,
        ended=outcome.ended,
        failed=problems[-1] if problems else "",
        **_record(outcome.losses),
    )


def _guarded(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """A metric that raises costs the metric alone: the losses are an outcome too."""
    problems: list[str] = []
    metric = recipe.evaluate

    def guarded(model: nn.Module) -> float:
        try:
            value = evaluate(recipe, model)
        except Exception as error:  # noqa: BLE001 - told in the result
            problems.append(first_line(error))
            value = None
        return math.nan if value is None else value

    return recipe.with_(evaluate=guarded if metric else None), problems


def _record(losses: NDArray[np.float64]) -> dict[str, Any]:
    """What is kept of the losses."""
    rows = np.linspace(0, len(losses) - 1, min(CURVE, len(losses))).round().astype(int)
    return {
        "steps": len(losses),
        "digest": hashlib.sha256(np.ascontiguousarray(losses).tobytes()).hexdigest()[:32] if len(losses) else "",
        "curve": tuple(losses[rows].tolist()),
    }


class _Watch(Observer):
    """Keeps what a run that is lost would take with it."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.parameters = 0

    @override
    def built(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)

    @override
    def losses(self, first: int, values: Sequence[float]) -> None:
        self.seen += values

    def lost(self, ended: str, failed: str, seconds: float) -> Result:
        record = _record(np.asarray(self.seen, dtype=np.float64))
        return Result(seconds=seconds, parameters=self.parameters, ended=ended, failed=failed, **record)


class _Hung(BaseException):
    """Raised in the middle of a step that does not end; no ``except Exception`` of the user's catches it."""


@contextmanager
def _alarm(limit: float) -> Iterator[None]:
    """Raise `_Hung` some time after the limit. Only the main thread of a Unix process can be reached like that."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not math.isfinite(limit) or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: Any) -> None:
        raise _Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, give_up_after(limit), _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def _free_memory(error: BaseException) -> None:
    """Let go of what did not fit: the frames of the error hold the network."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        error.__traceback__ = None
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
