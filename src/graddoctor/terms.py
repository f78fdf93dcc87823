"""The words of a diagnosis: conditions, causes, severities, and the findings made of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Condition(enum.Enum):
    """What is wrong with a training."""

    VANISHING = "vanishing"
    EXPLODING = "exploding"
    SATURATION = "saturation"
    DEAD_UNITS = "dead_units"
    POOR_INITIALIZATION = "poor_initialization"
    DEGRADATION = "degradation"
    RECURRENT_VANISHING = "recurrent_vanishing"
    RECURRENT_EXPLODING = "recurrent_exploding"
    PLATEAU = "plateau"
    OSCILLATION = "oscillation"
    UNDERFLOW = "underflow"
    NON_FINITE = "non_finite"
    LEARNING_RATE_TOO_HIGH = "learning_rate_too_high"
    LEARNING_RATE_TOO_LOW = "learning_rate_too_low"
    UNSCALED_INPUT = "unscaled_input"
    DISCONNECTED = "disconnected"


class Cause(enum.Enum):
    """What is to be changed."""

    ACTIVATION = "activation"
    INITIALIZATION = "initialization"
    INPUT_SCALE = "input_scale"
    TARGET_SCALE = "target_scale"
    OUTPUT_ACTIVATION = "output_activation"
    LOSS = "loss"
    LEARNING_RATE = "learning_rate"
    MOMENTUM = "momentum"
    SCHEDULE = "schedule"
    OPTIMIZER = "optimizer"
    CLIPPING = "clipping"
    WEIGHT_DECAY = "weight_decay"
    BATCHING = "batching"
    PRECISION = "precision"
    NORMALIZATION = "normalization"
    DEPTH = "depth"
    WIDTH = "width"
    RECURRENCE = "recurrence"
    GATES = "gates"
    GRAPH = "graph"


class Severity(enum.IntEnum):
    """How bad: a note is never an alarm."""

    NOTE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Blame:
    """One cause of a finding: what to change, where, and how much of the trouble it explains.

    ``share`` is the part of the missing progress that undoing this cause alone gave back (0 to 1; ``nan`` when no
    experiment was run). ``remedies`` are names of remedies that address it.
    """

    kind: Cause
    modules: tuple[str, ...] = ()
    share: float = float("nan")
    remedies: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class Trial:
    """One experiment as it was run: the change, how far it got, and what it gained over the plain run.

    ``progress`` is the share of the constant predictor's loss that was removed (1: all of it, 0: none); ``gain`` is the
    difference to the plain run at its end.
    """

    name: str
    cause: Cause
    steps: int
    progress: float
    gain: float
    evaluation: float | None = None
    helped: bool = False
    sentence: str = ""


@dataclass(frozen=True)
class Finding:
    """One disease: the condition, where it sits, its ranked causes, and what goes away with it.

    ``numbers`` maps short English names to the figures that show the condition (units in the name). ``trials`` are the
    experiments that confirmed it; empty when it was not put to one.
    """

    condition: Condition
    severity: Severity
    modules: tuple[str, ...] = ()
    causes: tuple[Blame, ...] = ()
    consequences: tuple[Condition, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""  # one sentence that a student understands
    detail: str = ""  # the figures that an engineer wants
    trials: tuple[Trial, ...] = ()

    @property
    def confirmed(self) -> bool:
        """Whether an experiment showed that undoing the cause helps."""
        return any(trial.helped for trial in self.trials)
