"""Sound recurrent networks that look sick: gradient lost over time that the task does not need, growth that is held."""

from __future__ import annotations

import torch
from torch import nn

from graddoctor.testing._patient import Patient, adam, sgd, sound, training
from graddoctor.testing._recurrent_nets import Loop, Reader, clipped, identity, orthogonal, recurrent
from graddoctor.testing._recurrent_twins import by_identity
from graddoctor.testing._sequences import average, recent, rows, shown, waves


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_short_memory(), *_whole_sequence(), *_growing(), *_odd())


def _short_memory() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_recurrent_recent",
            "A default tanh cell loses thirteen decades over fifty steps, but the last three decide.",
            training(recent, "classes", lambda: Reader("tanh", outputs=2), adam(3e-3), epochs=8),
        ),
        sound(
            "sound_recurrent_recent_lstm",
            "A default LSTM loses ten decades over fifty steps, but the last three decide.",
            training(recent, "classes", lambda: Reader("lstm", outputs=2), adam(5e-3), epochs=8),
        ),
        sound(
            "sound_recurrent_sigmoid_loop",
            "A hand-written sigmoid cell passes nothing on, and the very last step is all that counts.",
            training(
                lambda: recent(24, lag=1), "classes", lambda: Loop(outputs=2, act=torch.sigmoid), adam(1e-2), epochs=8
            ),
        ),
        sound(
            "sound_recurrent_truncated",
            "The state is detached at every eighth step on purpose: three steps of memory are enough.",
            training(lambda: recent(30), "classes", lambda: Loop(outputs=2, cut=8), adam(5e-3), epochs=8),
        ),
        sound(
            "sound_recurrent_late_event",
            "The pattern is shown six steps before the end of a hundred.",
            training(lambda: shown(100, at=-6), "classes", lambda: Reader("tanh"), adam(3e-3), epochs=6),
        ),
    )


def _whole_sequence() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_recurrent_average",
            "The mean of sixty steps, to which every one adds a little, in a default tanh cell that forgets most.",
            training(lambda: average(60), "real", lambda: Reader("tanh", 2, outputs=1), adam(5e-3), epochs=10),
        ),
        sound(
            "sound_recurrent_average_lstm",
            "The mean of seventy steps in a default LSTM, whose gradient is fourteen decades smaller in front.",
            training(lambda: average(70), "real", lambda: Reader("lstm", 2, outputs=1), adam(1e-2), epochs=8),
        ),
        sound(
            "sound_recurrent_waves",
            "The frequency of a wave, which any part of it tells, in a default GRU.",
            training(lambda: waves(32), "classes", lambda: Reader("gru", 1), adam(1e-2), epochs=8, clip=clipped()),
        ),
        sound(
            "sound_recurrent_rows",
            "Digits read row by row by a default LSTM.",
            training(rows, "classes", lambda: Reader("lstm", 8, outputs=10), adam(1e-2), epochs=10),
        ),
        sound(
            "sound_recurrent_rows_both_ways",
            "Digits read row by row in both directions by a default GRU.",
            training(
                rows, "classes", lambda: Reader("gru", 8, 24, outputs=10, bidirectional=True), adam(1e-2), epochs=8
            ),
        ),
    )


def _growing() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_recurrent_identity",
            "A ReLU cell that starts at the identity keeps gradient over fifty steps, as it should.",
            by_identity(),
        ),
        sound(
            "sound_recurrent_swells",
            "A ReLU cell of 1.26 times the identity grows its gradient a thousandfold; clipping and Adam hold it.",
            training(
                lambda: shown(30),
                "classes",
                lambda: recurrent(Reader("relu"), identity(1.26)),
                adam(2e-3),
                epochs=12,
                clip=clipped(),
            ),
        ),
        sound(
            "sound_recurrent_chaotic_start",
            "A rotation times 2 makes a tanh cell chaotic at first, and clipped steps calm it down.",
            training(
                lambda: shown(30),
                "classes",
                lambda: recurrent(Reader("tanh"), orthogonal(2.0)),
                adam(2e-3),
                epochs=12,
                clip=clipped(),
            ),
        ),
    )


def _reservoir() -> nn.Module:
    model = recurrent(Reader("tanh", width=64, outputs=2), orthogonal(0.8))
    model.get_submodule("cell").requires_grad_(requires_grad=False)
    return model


def _odd() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_recurrent_reservoir",
            "The cell is frozen on purpose and only its head is trained, as in an echo state network.",
            training(lambda: recent(30), "classes", _reservoir, adam(1e-2), epochs=10),
        ),
        sound(
            "sound_recurrent_sgd",
            "Digits row by row with plain SGD and a clip that acts at every step.",
            training(
                rows, "classes", lambda: Reader("tanh", 8, outputs=10), sgd(0.1, 0.9), epochs=10, clip=clipped(0.5)
            ),
        ),
    )
