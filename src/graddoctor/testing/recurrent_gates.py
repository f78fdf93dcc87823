"""Gated cells whose gates start half open, shut or stuck, in many builds: stacked, bidirectional, packed, projected."""

from __future__ import annotations

from typing import Any

from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.terms import Cause, Condition
from graddoctor.testing._patient import Patient, adam, seeded, sick, training
from graddoctor.testing._recurrent_nets import Packed, Reader, clipped, gate, recurrent
from graddoctor.testing._recurrent_twins import by_gru, by_lstm, remembering
from graddoctor.testing._sequences import order, ragged, shown, spelled

_C = Condition
_CELL = ("cell",)
_GATES = (Cause.GATES, Cause.INITIALIZATION, Cause.RECURRENCE)
_LOST = (_C.PLATEAU, _C.RECURRENT_VANISHING)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_lstm(), *_gru(), *_builds())


def _lstm() -> tuple[Patient, ...]:
    events = training(lambda: order(40), "classes", lambda: remembering(3), adam(1e-2), epochs=16, clip=clipped())
    words = training(
        lambda: spelled(40), "classes", lambda: remembering(16, words=10), adam(5e-3), epochs=8, clip=clipped()
    )
    return (
        sick(
            "recurrent_lstm_default",
            "A default LSTM forgets half of its cell at every one of thirty steps.",
            by_lstm(),
            conditions=_LOST,
            causes=_GATES,
            modules=_CELL,
            model=seeded(lambda: Reader("lstm")),
        ),
        sick(
            "recurrent_lstm_forgets",
            "The forget biases of an LSTM start at -4, so that it keeps nothing.",
            by_lstm(),
            conditions=(*_LOST, _C.SATURATION),
            causes=_GATES,
            modules=_CELL,
            model=seeded(lambda: gate(Reader("lstm"), 1, -4.0)),
        ),
        sick(
            "recurrent_lstm_order",
            "Which of two events came first is asked at the end of forty steps of an LSTM that forgets half at each.",
            events,
            conditions=_LOST,
            causes=_GATES,
            modules=_CELL,
            model=seeded(lambda: Reader("lstm", 3)),
        ),
        sick(
            "recurrent_lstm_tokens",
            "The first of forty embedded words decides the class, and a default LSTM has long lost it.",
            words,
            conditions=_LOST,
            causes=_GATES,
            modules=_CELL,
            model=seeded(lambda: Reader("lstm", 16, words=10)),
        ),
        sick(
            "recurrent_lstm_chaotic",
            "The recurrent matrices of an LSTM start thirty times too large: its gates flip and its gradient explodes.",
            by_lstm(),
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.RECURRENT_EXPLODING, _C.SATURATION),
            causes=(Cause.INITIALIZATION, Cause.RECURRENCE),
            modules=_CELL,
            model=seeded(lambda: recurrent(remembering(), lambda weight: weight.mul_(30.0))),
        ),
    )


def _gru() -> tuple[Patient, ...]:
    return (
        sick(
            "recurrent_gru_default",
            "A default GRU overwrites half of its state at every one of thirty steps.",
            by_gru(),
            conditions=(*_LOST, _C.LEARNING_RATE_TOO_LOW),
            causes=(*_GATES, Cause.LEARNING_RATE),
            modules=_CELL,
            model=seeded(lambda: Reader("gru")),
        ),
        sick(
            "recurrent_gru_overwrites",
            "The update biases of a GRU have the wrong sign: every step overwrites the state.",
            by_gru(),
            conditions=(*_LOST, _C.LEARNING_RATE_TOO_LOW),
            causes=(*_GATES, Cause.LEARNING_RATE),
            modules=_CELL,
            model=seeded(lambda: gate(Reader("gru"), 1, -3.0)),
        ),
        sick(
            "recurrent_gru_stuck",
            "The update biases of a GRU start at 12: it keeps its empty state and reads nothing.",
            by_gru(),
            conditions=(
                _C.LEARNING_RATE_TOO_LOW,
                _C.PLATEAU,
                _C.SATURATION,
            ),
            causes=(Cause.GATES, Cause.INITIALIZATION, Cause.LEARNING_RATE),
            modules=_CELL,
            model=seeded(lambda: gate(Reader("gru"), 1, 12.0)),
        ),
    )


def _opened(build: Any, task: Any, epochs: int = 8) -> Recipe:
    return training(task, "classes", lambda: gate(build(), 1, 3.0), adam(5e-3), epochs=epochs, clip=clipped())


def _stacked() -> nn.Module:
    return Reader("lstm", width=24, num_layers=2)


def _bidirectional() -> nn.Module:
    return Reader("lstm", width=24, bidirectional=True)


def _projected() -> nn.Module:
    return Reader("lstm", width=40, proj_size=24)


def _packed() -> nn.Module:
    return Packed("lstm", width=24)


def _builds() -> tuple[Patient, ...]:
    def spoiled(name: str, story: str, build: Any, task: Any, *further: Condition, epochs: int = 8) -> Patient:
        return sick(
            name,
            story,
            _opened(build, task, epochs),
            conditions=(*_LOST, *further),
            causes=_GATES,
            modules=_CELL,
            model=seeded(build),
        )

    return (
        spoiled(
            "recurrent_lstm_stacked",
            "Two default LSTM layers on top of each other must recall the first of thirty steps.",
            _stacked,
            lambda: shown(30),
        ),
        spoiled(
            "recurrent_lstm_bidirectional",
            "A default bidirectional LSTM, read at the last step, where its backward half has seen one step only.",
            _bidirectional,
            lambda: shown(30),
            _C.DISCONNECTED,
            _C.POOR_INITIALIZATION,
        ),
        spoiled(
            "recurrent_lstm_projected",
            "A default LSTM with a projection to half of its width.",
            _projected,
            lambda: shown(20),
            epochs=5,
        ),
        spoiled(
            "recurrent_lstm_packed",
            "Packed sequences of 25 to 40 steps, of which the first decides, in a default LSTM.",
            _packed,
            ragged,
        ),
    )
