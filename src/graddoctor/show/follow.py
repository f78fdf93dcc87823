"""Follow a recording while it is written: the newest numbers, a line at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from graddoctor.recording import Recording, Stage
from graddoctor.show import words

_GRADIENTS = (Stage.RAW, Stage.REDUCED, Stage.UNSCALED, Stage.CLIPPED)


def follow(path: Path, say: Callable[[str], None], *, every: float = 1.0, once: bool = False) -> None:
    """Say the newest numbers of a recorded file whenever there are any, until interrupted.

    Parameters
    ----------
    every
        Seconds between two looks.
    once
        Look once and return.

    Raises
    ------
    RecordingError
        The file is no recording.
    """
    with Recording.open(path) as recording:
        for lines in news(recording):
            for line in lines or ["nothing recorded yet"] * once:
                say(line)
            if once:
                return
            time.sleep(every)


def news(recording: Recording) -> Iterator[list[str]]:
    """Yield, at every look, a line for each new event and one for the newest step, if it is a new one."""
    told, newest = 0, -1
    while True:
        events = recording.events
        lines = [f"step {event.step}: {event.message}" for event in events[told:]]
        told = len(events)
        steps = recording.steps
        if len(steps) and steps[-1] > newest:
            newest = int(steps[-1])
            lines.append(newest_numbers(recording, newest))
        yield lines


def newest_numbers(recording: Recording, step: int) -> str:
    """Tell one step in a line: every scalar, and the tensors with the least and the most gradient."""
    parts = [f"step {step}"]
    for name in recording.scalar_names:
        series = recording.scalars(name)
        if len(series.values):
            parts.append(f"{words.spaced(name)} {words.figure(float(series.values[-1]))}")
    for stage in _GRADIENTS:
        table = recording.table(stage, "norm", since=step - 1)
        if len(table.steps) and not np.isnan(table.matrix[-1]).all():
            parts.append(_gradients(table.names, table.matrix[-1].astype(np.float64), stage))
            break
    return "  ".join(parts)


def _gradients(names: tuple[str, ...], norms: np.ndarray[tuple[int], np.dtype[np.float64]], stage: Stage) -> str:
    read = np.flatnonzero(~np.isnan(norms))
    least, most = (int(read[pick(norms[read])]) for pick in (np.argmin, np.argmax))
    ends = [f"{words.figure(float(norms[one]))} ({names[one]})" for one in (least, most)]
    return f"{stage.value} gradients from {' to '.join(ends)}"
