"""A task: one training of a recipe under one remedy and one seed, and what it gave. Made to travel."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graddoctor.prove.yardstick import Yardstick
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.remedy import Remedy

_LOST = frozenset({"non-finite", "failed", "hung", "died"})
_CUT_SHORT = frozenset({"deadline", "hung", "died"})
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError")


@dataclass(frozen=True)
class Setting:
    """What all tasks of one `fix` share.

    Attributes
    ----------
    recipe
        As the user gave it.
    yardstick
        What progress is measured by.
    threads
        Threads that every task computes with, wherever it runs: another number gives other bits.
    limit
        Seconds after which a task is given up.
    """

    recipe: Recipe
    yardstick: Yardstick
    threads: int = 1
    limit: float = math.inf


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes
    ----------
    remedy
        What is changed; ``None``: nothing.
    seed
        0: as the user seeded it. From 1 on: fresh draws, the same for the same number whatever the remedy.
    steps
        How many, through the whole of the schedule; ``None``: all that the (treated) recipe asks for.
    sweep
        Whether the rate climbs through decades instead (`graddoctor.prove.sweep`), to find the one that suits.
    """

    remedy: Remedy | None
    seed: int = 0
    steps: int | None = None
    sweep: bool = False

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.remedy.name if self.remedy else "as given"

    @property
    def key(self) -> str:
        """The same for the same training, in any process."""
        edits = [(e.part, _stable(e.function), _stable(e.arguments)) for e in self._edits]
        return hashlib.sha256(repr((self.name, edits, self.seed, self.steps, self.sweep)).encode()).hexdigest()

    @property
    def _edits(self) -> tuple[Edit, ...]:
        return self.remedy.edits if self.remedy else ()


@dataclass(frozen=True)
class Result:
    """What a task gave.

    Attributes
    ----------
    progress
        Share of the best constant predictor's loss that was removed at the end; 0 where the loss is not finite.
    loss
        The smoothed loss at the end.
    metric
        The recipe's own metric; ``None`` where it has none, ``nan`` where it could not be had.
    steps, seconds
        Steps run, and their wall-clock time.
    parameters
        How many trainable numbers the network had.
    ended
        As `graddoctor.train.Outcome` has it, or ``"failed"``, or ``"hung"``, or ``"died"`` with the process it was in.
    failed
        The first line of what was raised.
    digest
        Fingerprint of all losses: two runs that drew the same have the same.
    best
        Of a sweep: the factor of the given rate at which the loss was lowest; ``None``: it never fell.
    curve
        Up to 64 losses, evenly spread over the steps.
    """

    progress: float = 0.0
    loss: float = math.inf
    metric: float | None = None
    steps: int = 0
    seconds: float = 0.0
    parameters: int = 0
    ended: str = "complete"
    failed: str = ""
    digest: str = ""
    best: float | None = None
    curve: tuple[float, ...] = field(default=(), repr=False)

    @property
    def lost(self) -> bool:
        """Whether it gave no usable network: not finite, raised, hung."""
        return bool(self.failed) or not math.isfinite(self.loss) or self.ended in _LOST

    @property
    def final(self) -> bool:
        """Whether it would come out the same again: neither time, nor memory, nor a dead process had a say in it."""
        return self.ended not in _CUT_SHORT and not self.failed.startswith(_OUT_OF_MEMORY)


def _stable(value: Any) -> str:
    """Text of a literal; a function or class by its name, since its own text may tell where in memory it lies."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_stable(key)}: {_stable(one)}' for key, one in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(map(_stable, value))})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)
