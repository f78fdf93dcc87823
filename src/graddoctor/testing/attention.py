"""Attention that does not attend: saturated scores, shut or frozen parts, norms and rates that do not go together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import recall
from graddoctor.testing._nets import Transformer
from graddoctor.testing._patient import Patient, adam, seeded, sick, training

_C = Condition
_START = (Cause.INITIALIZATION,)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_scores(), *_parts(), *_steps())


def reader(blocks: int = 2, order: str = "pre") -> nn.Module:
    """Build a transformer that must find the word after a marker, one of six."""
    return Transformer(words=5, length=6, classes=4, blocks=blocks, order=order)


def reading(build: Callable[[], nn.Module] = reader, rate: float = 5e-3) -> Recipe:
    """Train such a reader with Adam."""
    return training(lambda: recall(6, 4), "classes", build, adam(rate), epochs=8)


def reweighted(model: nn.Module, factor: float, *ends: str) -> nn.Module:
    """Multiply the weights of all layers whose names end like this."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(ends):
                module.weight.mul_(factor)
    return model


def _frozen(model: nn.Module, *ends: str) -> nn.Module:
    """Shut and freeze the layers whose names end like this."""
    for name, module in reweighted(model, 0.0, *ends).named_modules():
        if name.endswith(ends):
            module.requires_grad_(requires_grad=False)
    return model


def _scores() -> tuple[Patient, ...]:
    two = reading()
    return (
        sick(
            "attention_scores_huge",
            "Queries and keys start thirty times too large, so that every place attends to one other, at random.",
            two,
            conditions=(
                _C.EXPLODING,
                _C.SATURATION,
            ),
            causes=_START,
            modules=("blocks.0.attention", "blocks.1.attention"),
            model=seeded(lambda: reweighted(reader(), 30.0, "query", "key")),
        ),
        sick(
            "attention_tokens_huge",
            "Token embeddings start a hundred times too large, and no block adds anything that counts beside them.",
            two,
            conditions=(
                _C.PLATEAU,
                _C.SATURATION,
            ),
            causes=(*_START, Cause.INPUT_SCALE),
            modules=("tokens",),
            model=seeded(lambda: reweighted(reader(), 100.0, "tokens")),
        ),
    )


def _parts() -> tuple[Patient, ...]:
    two = reading()
    return (
        sick(
            "attention_places_frozen",
            "The embeddings of the places are zero and frozen by mistake, so that the order is lost.",
            two,
            conditions=(
                _C.DISCONNECTED,
                _C.PLATEAU,
            ),
            causes=(Cause.GRAPH,),
            modules=("places",),
            model=seeded(lambda: _frozen(reader(), "places")),
        ),
        sick(
            "attention_places_tiny",
            "The embeddings of the places start at a ten-thousandth of those of the tokens.",
            two,
            conditions=(
                _C.EXPLODING,
                _C.PLATEAU,
                _C.POOR_INITIALIZATION,
            ),
            causes=_START,
            modules=("places",),
            model=seeded(lambda: reweighted(reader(), 1e-4, "places")),
        ),
        sick(
            "attention_branches_frozen",
            "Queries, keys and values are zero and frozen by mistake: every branch is silent.",
            two,
            conditions=(
                _C.DISCONNECTED,
                _C.PLATEAU,
                _C.POOR_INITIALIZATION,
            ),
            causes=(Cause.GRAPH,),
            modules=("blocks.0.attention", "blocks.1.attention"),
            model=seeded(lambda: _frozen(reader(), "query", "key", "value", "project")),
        ),
    )


def _steps() -> tuple[Patient, ...]:
    two, deep = reading(), reading(lambda: reader(4, "post"), 1e-3)
    return (
        sick(
            "attention_post_norm_fast",
            "Four blocks with their norms after the additions, trained without warm-up at thirty times their rate.",
            deep,
            conditions=(_C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU, _C.SATURATION),
            causes=(Cause.LEARNING_RATE, Cause.SCHEDULE, Cause.NORMALIZATION),
            optimizer=adam(3e-2),
        ),
        sick(
            "attention_adam_epsilon",
            "Adam's epsilon of 1 is far above every gradient, and makes it a slow SGD.",
            two,
            conditions=(_C.PLATEAU,),
            causes=(Cause.OPTIMIZER, Cause.LEARNING_RATE),
            optimizer=adam(5e-3, eps=1.0),
        ),
        sick(
            "attention_rate_high",
            "A rate that suits a small MLP throws a transformer out at its first steps.",
            two,
            conditions=(
                _C.EXPLODING,
                _C.LEARNING_RATE_TOO_HIGH,
                _C.PLATEAU,
                _C.SATURATION,
            ),
            causes=(Cause.LEARNING_RATE,),
            optimizer=adam(0.3),
        ),
    )
