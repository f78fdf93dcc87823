"""The words of a diagnosis: conditions, causes, severities, and the findings made of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

_TITLES = {
    "vanishing": "Vanishing gradient",
    "exploding": "Exploding gradient",
    "recurrent_vanishing": "Gradient vanishing through time",
    "recurrent_exploding": "Gradient exploding through time",
    "non_finite": "Non-finite numbers",
    "unscaled_input": "Unscaled input",
    "graph": "Computation graph",
}


class _Term(enum.Enum):
    """A word of a diagnosis: its value is its name in JSON and on the command line, its docstring what a user reads."""

    _value_: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """Keep the sentence as the member's docstring, the one place where it stands."""
        member = object.__new__(cls)
        member._value_ = value
        member.__doc__ = sentence
        return member

    @property
    def title(self) -> str:
        """A heading for it: ``"Learning rate too high"``."""
        return _TITLES.get(self.value) or self.value.replace("_", " ").capitalize()

    @property
    def sentence(self) -> str:
        """What a user reads about it."""
        return self.__doc__ or ""


class Condition(_Term):
    """What is wrong with a training."""

    VANISHING = (
        "vanishing",
        "Gradient is lost on its way back to the early layers, or the samples become alike on their way forward.",
    )
    EXPLODING = (
        "exploding",
        "The gradient, or the signal, grows from layer to layer until a step overshoots whatever it should reach.",
    )
    SATURATION = (
        "saturation",
        "Activations sit on the flat ends of their function, where the slope is almost zero and the gradient stops.",
    )
    DEAD_UNITS = (
        "dead_units",
        "Units give the same output and no gradient for every sample, so nothing can bring them back.",
    )
    POOR_INITIALIZATION = (
        "poor_initialization",
        "The weights start at a scale, or in a symmetry, from which this network does not begin to learn.",
    )
    DEGRADATION = (
        "degradation",
        "The network is so deep that it trains worse than a shallower one of the same kind would.",
    )
    RECURRENT_VANISHING = (
        "recurrent_vanishing",
        "The gradient shrinks from time step to time step, so that what happened long ago cannot be learned from.",
    )
    RECURRENT_EXPLODING = (
        "recurrent_exploding",
        "The gradient grows from time step to time step until long sequences throw the weights out of place.",
    )
    PLATEAU = (
        "plateau",
        "The loss stands still although there is something left to learn.",
    )
    OSCILLATION = (
        "oscillation",
        "The loss swings up and down without getting lower: successive steps undo one another.",
    )
    UNDERFLOW = (
        "underflow",
        "Numbers are too small for their numeric type: gradients become zero, or updates leave the weights alone.",
    )
    NON_FINITE = (
        "non_finite",
        "The loss or a gradient becomes infinite or NaN, and training cannot go on from there.",
    )
    LEARNING_RATE_TOO_HIGH = (
        "learning_rate_too_high",
        "The steps are too long: the same training learns with a smaller learning rate.",
    )
    LEARNING_RATE_TOO_LOW = (
        "learning_rate_too_low",
        "The steps are too short: the same training gets much further with a larger learning rate.",
    )
    UNSCALED_INPUT = (
        "unscaled_input",
        "The numbers that go in, or the targets, are of a size or an offset that the network cannot work with.",
    )
    DISCONNECTED = (
        "disconnected",
        "A parameter that should be trained never gets a gradient: no path leads from the loss to it.",
    )


class Cause(_Term):
    """What is to be changed."""

    ACTIVATION = (
        "activation",
        "The activation function passes on too little, or too much, of the gradient in a network of this depth.",
    )
    INITIALIZATION = (
        "initialization",
        "The weights or biases, recurrent ones too, start at the wrong scale for the activation that follows them.",
    )
    INPUT_SCALE = (
        "input_scale",
        "The inputs need to be standardised: mean zero and unit variance for each feature.",
    )
    TARGET_SCALE = (
        "target_scale",
        "The targets need to be standardised: the loss of the raw ones makes gradients of the wrong size.",
    )
    OUTPUT_ACTIVATION = (
        "output_activation",
        "The activation on the output does not go with the loss, or cannot reach the targets: it should come off.",
    )
    LOSS = (
        "loss",
        "The loss is computed in a way that hides the gradient, or measures something that the targets do not mean.",
    )
    LEARNING_RATE = (
        "learning_rate",
        "The learning rate is wrong for this network: too high, or too low.",
    )
    MOMENTUM = (
        "momentum",
        "The momentum is so high that steps go on long after the gradient has turned.",
    )
    SCHEDULE = (
        "schedule",
        "The learning rate is changed at the wrong times: it starts too high, or falls before anything was learned.",
    )
    OPTIMIZER = (
        "optimizer",
        "The update rule itself does not suit these gradients; another optimizer learns where this one does not.",
    )
    CLIPPING = (
        "clipping",
        "The gradient is clipped far below its usual size, so that every step is almost nothing.",
    )
    WEIGHT_DECAY = (
        "weight_decay",
        "Weight decay pulls the weights to zero faster than the gradient can build them up.",
    )
    BATCHING = (
        "batching",
        "The batches are too small, unshuffled, or put together in a way that makes their gradients misleading.",
    )
    PRECISION = (
        "precision",
        "The numeric type cannot hold the numbers: float32, bfloat16 or a loss scale would.",
    )
    NORMALIZATION = (
        "normalization",
        "A normalization is missing, misplaced, or works with statistics that do not fit the data.",
    )
    DEPTH = (
        "depth",
        "There are more layers in a row than this kind of network can train; shortcuts or fewer layers help.",
    )
    WIDTH = (
        "width",
        "The layers are too narrow to carry the signal, or too wide for the chosen rate.",
    )
    RECURRENCE = (
        "recurrence",
        "The recurrent cell cannot carry a gradient over so many time steps.",
    )
    GATES = (
        "gates",
        "The biases of the gates make the cell forget too soon, or never.",
    )
    GRAPH = (
        "graph",
        "Something is detached, frozen or left unused by mistake, so that the gradient has no way to the parameters.",
    )


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
