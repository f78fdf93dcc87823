"""Recurrent trainings that work, from which several patients are made."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.testing._patient import adam, training
from graddoctor.testing._recurrent_nets import Reader, clipped, gate, identity, orthogonal, recurrent
from graddoctor.testing._sequences import shown


def rotation() -> nn.Module:
    """Build a tanh cell whose recurrent matrix is a rotation."""
    return recurrent(Reader("tanh"), orthogonal())


def remembering(features: int = 4, outputs: int = 4, **options: Any) -> nn.Module:
    """Build an LSTM whose forget gates start open."""
    return gate(Reader("lstm", features, outputs=outputs, **options), 1, 3.0)


def accumulating(features: int = 4, outputs: int = 4) -> nn.Module:
    """Build a ReLU cell whose recurrent matrix is the identity (Le, Jaitly and Hinton, 2015)."""
    return recurrent(Reader("relu", features, outputs=outputs), identity())


@cache
def by_rotation(length: int = 30) -> Recipe:
    """Recall of the first step with a rotation."""
    return training(lambda: shown(length), "classes", rotation, adam(2e-3), epochs=8, clip=clipped())


@cache
def by_identity(length: int = 50) -> Recipe:
    """Recall of the first step with the identity and ReLU."""
    return training(lambda: shown(length), "classes", accumulating, adam(2e-3), epochs=8, clip=clipped())


@cache
def by_lstm(length: int = 30) -> Recipe:
    """Recall of the first step with an LSTM that remembers."""
    return training(lambda: shown(length), "classes", remembering, adam(5e-3), epochs=8, clip=clipped())


@cache
def by_gru(length: int = 30) -> Recipe:
    """Recall of the first step with a GRU that keeps its state."""
    return training(
        lambda: shown(length), "classes", lambda: gate(Reader("gru"), 1, 3.0), adam(5e-3), epochs=5, clip=clipped()
    )
