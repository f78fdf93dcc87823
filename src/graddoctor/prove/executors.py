"""Executors: where tasks are trained. In this process, in others, or on Ray; all three give the same numbers."""

from __future__ import annotations

import warnings

from graddoctor.errors import TrialsError
from graddoctor.prove.processes import Processes
from graddoctor.prove.ray_tasks import RayTasks, require_ray
from graddoctor.prove.serial import Serial, TaskExecutor
from graddoctor.prove.task import Setting
from graddoctor.prove.travel import check_travels
from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe

__all__ = ["Processes", "RayTasks", "Serial", "TaskExecutor", "executor", "foreseen"]


def executor(workers: int = 0, *, ray: str | bool = False, setting: Setting) -> TaskExecutor:
    """Make the executor that was asked for; where the recipe cannot travel, one in this process, with a warning.

    Parameters
    ----------
    workers
        Processes that train side by side; 0: this one. With Ray the most tasks at a time; 0: as many as it has room
        for.
    ray
        ``True`` starts Ray on this machine, a string is the address of a cluster (``"auto"``: the one that is near).

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    TrialsError
        The cluster cannot be reached.
    """
    if not workers and not ray:
        return Serial(setting)
    try:
        check_travels(setting)
    except TrialsError as error:
        warnings.warn(f"{error}; it is trained in this process", stacklevel=2)
        return Serial(setting)
    return RayTasks(setting, ray, workers) if ray else Processes(setting, workers)


def foreseen(recipe: Recipe, workers: int = 0, *, ray: str | bool = False) -> tuple[int, str | bool]:
    """Find out what stands against `workers` and `ray` before anything is trained, and return what is left of them.

    A recipe that cannot travel is told in a warning; it is to be trained in this process.

    Raises
    ------
    MissingExtraError, TrialsError
        As `executor` does, as far as it can be known.
    """
    if not workers and not ray:
        return 0, False
    if ray:
        require_ray(ray)
    try:
        check_travels(Setting(recipe, Yardstick(1.0, computed=False)))
    except TrialsError as error:
        warnings.warn(f"{error}; it is trained in this process", stacklevel=3)
        return 0, False
    return workers, ray
