"""Networks that are well begun and yet too deep: their shallower or residual twins train, they do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import digits
from graddoctor.testing._deep_nets import (
    Deep,
    Embedded,
    Highway,
    attending,
    conv,
    dense,
    image_head,
    image_stem,
    pooled_head,
    pyramid,
    two_layers,
)
from graddoctor.testing._nets import fitted
from graddoctor.testing._patient import Optimizer, Patient, adam, seeded, sgd, sick, training
from graddoctor.testing._sequences import spelled

_C = Condition
_DEPTH = (Cause.DEPTH,)
_WIDTH = 32
Build = Callable[[], nn.Module]


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_normed(), *_bare(), *_images(), *_streams())


def stacked(layer: Build, count: int, kind: str = "relu", *, skip: bool = False) -> Build:
    """Return a builder of so many dense layers between a stem and a head, with the start that fits."""
    return lambda: fitted(
        Deep(nn.Linear(64, _WIDTH), layer, count, nn.Linear(_WIDTH, 10), skip=skip),
        kind,
    )


def _digits(build: Build, optimizer: Optimizer, epochs: int = 6) -> Recipe:
    return training(digits, "classes", build, optimizer, epochs=epochs)


def _normed() -> tuple[Patient, ...]:
    batch, layer = dense(_WIDTH, norm=nn.BatchNorm1d), dense(_WIDTH, norm=nn.LayerNorm)
    return (
        sick(
            "depth_batch_norm",
            "Thirty linear layers with BatchNorm and ReLU in a row; the twin has shortcuts around each.",
            _digits(stacked(batch, 30, skip=True), sgd(0.02, 0.9)),
            conditions=(
                _C.DEGRADATION,
                _C.PLATEAU,
            ),
            causes=_DEPTH,
            model=seeded(stacked(batch, 30)),
        ),
        sick(
            "depth_layer_norm",
            "Thirty linear layers with LayerNorm and ReLU in a row; the twin has six.",
            _digits(stacked(layer, 6), adam(2e-3), epochs=8),
            conditions=(
                _C.DEAD_UNITS,
                _C.DEGRADATION,
                _C.OSCILLATION,
                _C.PLATEAU,
            ),
            causes=_DEPTH,
            model=seeded(stacked(layer, 30)),
        ),
        sick(
            "depth_layer_norm_forty",
            "Forty linear layers with LayerNorm and tanh in a row under SGD; the twin has shortcuts.",
            _digits(stacked(dense(_WIDTH, nn.Tanh, nn.LayerNorm), 40, "tanh", skip=True), sgd(0.01, 0.9)),
            conditions=(_C.DEGRADATION, _C.PLATEAU, _C.VANISHING),
            causes=_DEPTH,
            model=seeded(stacked(dense(_WIDTH, nn.Tanh, nn.LayerNorm), 40, "tanh")),
        ),
    )


@cache
def _shallow(act: Build, kind: str) -> Recipe:
    return _digits(stacked(dense(_WIDTH, act), 6, kind), adam(2e-3), epochs=8)


def _bare() -> tuple[Patient, ...]:
    def deep(name: str, story: str, act: Build, kind: str, count: int, *further: Condition) -> Patient:
        return sick(
            name,
            story,
            _shallow(act, kind),
            conditions=(_C.DEGRADATION, *further),
            causes=_DEPTH,
            model=seeded(stacked(dense(_WIDTH, act), count, kind)),
        )

    return (
        deep(
            "depth_he_relu",
            "Fifty ReLU layers with He's start, which keeps their size.",
            nn.ReLU,
            "relu",
            50,
            _C.DEAD_UNITS,
            _C.POOR_INITIALIZATION,
        ),
        deep("depth_tanh", "Sixty tanh layers at the edge of chaos.", nn.Tanh, "tanh", 60, _C.PLATEAU, _C.VANISHING),
        deep("depth_gelu", "Forty GELU layers with the start that fits.", nn.GELU, "gelu", 40),
    )


def _images() -> tuple[Patient, ...]:
    def plain(count: int) -> Build:
        return lambda: fitted(Deep(image_stem(8), conv(8), count, image_head(8)))

    return (
        sick(
            "depth_cnn_batch_norm",
            "Thirty convolutions of eight channels, each with BatchNorm and ReLU; the twin has six.",
            _digits(plain(6), sgd(0.05, 0.9), epochs=4),
            conditions=(
                _C.DEGRADATION,
                _C.PLATEAU,
            ),
            causes=_DEPTH,
            model=seeded(plain(30)),
        ),
        sick(
            "depth_cnn_pyramid",
            "Three stages of ten convolutions, with pooling between them; the twin has two in each.",
            _digits(lambda: fitted(pyramid(2)), sgd(0.05, 0.9), epochs=4),
            conditions=(_C.DEGRADATION,),
            causes=_DEPTH,
            model=seeded(lambda: fitted(pyramid(10))),
        ),
    )


def _streams() -> tuple[Patient, ...]:
    def blocks(count: int, *, skip: bool) -> Build:
        return lambda: Deep(nn.Linear(64, _WIDTH), two_layers(_WIDTH), count, nn.Linear(_WIDTH, 10), skip=skip)

    def attention(*, skip: bool) -> Build:
        return lambda: Deep(Embedded(words=10), attending(32), 6, pooled_head(32, 4), skip=skip)

    def highway(bias: float) -> Build:
        return lambda: Deep(nn.Linear(64, _WIDTH), lambda: Highway(_WIDTH, bias), 24, nn.Linear(_WIDTH, 10))

    return (
        sick(
            "depth_skips_forgotten",
            "Sixteen pre-norm blocks of two layers, written without adding what came in.",
            _digits(blocks(16, skip=True), adam(2e-3)),
            model=seeded(blocks(16, skip=False)),
            conditions=(_C.DEAD_UNITS, _C.DEGRADATION, _C.PLATEAU, _C.VANISHING),
            causes=_DEPTH,
        ),
        sick(
            "depth_attention_plain",
            "Six transformer blocks without shortcuts: after a few of them all places look alike.",
            training(lambda: spelled(10), "classes", attention(skip=True), adam(2e-3), epochs=4),
            model=seeded(attention(skip=False)),
            conditions=(_C.DEGRADATION, _C.LEARNING_RATE_TOO_HIGH),
            causes=(*_DEPTH, Cause.LEARNING_RATE),
        ),
        sick(
            "depth_highway_shut",
            "Twenty-four highway layers whose gates start on the side of the transform, so that nothing is carried.",
            _digits(highway(-2.0), adam(3e-3), epochs=8),
            conditions=(
                _C.DEAD_UNITS,
                _C.DEGRADATION,
                _C.PLATEAU,
                _C.POOR_INITIALIZATION,
                _C.SATURATION,
                _C.VANISHING,
            ),
            causes=(Cause.DEPTH, Cause.GATES, Cause.INITIALIZATION),
            model=seeded(highway(4.0)),
        ),
    )
