"""Bad starts: weights and biases of the wrong size, in one layer or all, set in many ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import digits, pairs
from graddoctor.testing._nets import TwoTowers, cnn, fitted
from graddoctor.testing._patient import Patient, adam, seeded, sgd, sick, training
from graddoctor.testing._starts import at, deep, everywhere, scaled, wide

_C = Condition
_INIT = (Cause.INITIALIZATION,)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_weights(), *_single_layers(), *_biases(), *_depth())


def _weights() -> tuple[Patient, ...]:
    eight = training(digits, "classes", lambda: wide(8), sgd(0.03))
    tanh = training(digits, "classes", lambda: wide(10, "tanh"), sgd(0.05))
    shallow = training(digits, "classes", lambda: wide(3), sgd(0.05))
    return (
        sick(
            "init_normal_tiny",
            "Every weight is drawn from N(0, 0.01²), a tenth of what ReLU layers of this width need.",
            eight,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(8), lambda w: nn.init.normal_(w, std=0.01))),
        ),
        sick(
            "init_normal_huge",
            "Every weight is drawn from N(0, 1): the signal grows sixfold in each layer.",
            eight,
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(8), nn.init.normal_)),
        ),
        sick(
            "init_uniform_apply",
            "model.apply draws the weights of ten tanh layers from U(-0.05, 0.05).",
            tanh,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(10, "tanh"), lambda w: nn.init.uniform_(w, -0.05, 0.05))),
        ),
        sick(
            "init_xavier_gain",
            "Xavier with gain 12 pins ten tanh layers at their ends from the first step.",
            tanh,
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.SATURATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(10, "tanh"), lambda w: nn.init.xavier_normal_(w, 12.0))),
        ),
        sick(
            "init_constant",
            "All weights of a tanh network hold the same number, so all units of a layer stay the same unit.",
            training(digits, "classes", lambda: wide(3, "tanh"), sgd(0.05)),
            conditions=(_C.POOR_INITIALIZATION, _C.SATURATION),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(3, "tanh"), lambda w: nn.init.constant_(w, 0.05))),
        ),
        sick(
            "init_zeros",
            "Weights and biases start at zero: behind the head no gradient flows at all.",
            shallow,
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(3), nn.init.zeros_)),
        ),
        sick(
            "init_orthogonal_small",
            "Orthogonal matrices with gain 0.3 in twelve tanh layers.",
            training(digits, "classes", lambda: wide(12, "tanh"), sgd(0.05)),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(12, "tanh"), lambda w: nn.init.orthogonal_(w, 0.3))),
        ),
        sick(
            "init_orthogonal_large",
            "Orthogonal matrices with gain 4 in eight ReLU layers.",
            eight,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: everywhere(wide(8), lambda w: nn.init.orthogonal_(w, 4.0))),
        ),
    )


def _single_layers() -> tuple[Patient, ...]:
    six = training(digits, "classes", lambda: wide(6), sgd(0.03))
    tanh = training(digits, "classes", lambda: wide(5, "tanh"), sgd(0.05))

    def half() -> nn.Module:
        model = wide(8)
        for index in range(1, 5):
            at(model, f"fc{index}", scaled(0.03))
        return model

    return (
        sick(
            "init_two_layers_tiny",
            "The third and the fourth of six ReLU layers start a thousand times too small.",
            six,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            modules=("fc3", "fc4"),
            model=seeded(lambda: at(at(wide(6), "fc3", scaled(1e-3)), "fc4", scaled(1e-3))),
        ),
        sick(
            "init_one_layer_saturates",
            "The second of five tanh layers starts a thousand times too large and its units are pinned.",
            tanh,
            conditions=(_C.OSCILLATION, _C.SATURATION),
            causes=_INIT,
            modules=("fc2",),
            model=seeded(lambda: at(wide(5, "tanh"), "fc2", scaled(1000.0))),
        ),
        sick(
            "init_half_tiny",
            "The first four of eight ReLU layers start thirty times too small.",
            training(digits, "classes", lambda: wide(8), sgd(0.03)),
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            modules=("fc1", "fc2", "fc3", "fc4"),
            model=seeded(half),
        ),
        sick(
            "init_head_huge",
            "The output layer starts a thousand times too large: the first losses are in the hundreds.",
            six,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_INIT,
            modules=("out",),
            model=seeded(lambda: at(wide(6), "out", scaled(300.0))),
        ),
        sick(
            "init_tower_tiny",
            "One of two input towers starts at a millionth, so its input does not reach the head.",
            training(pairs, "classes", lambda: fitted(TwoTowers()), sgd(0.1), epochs=30),
            conditions=(_C.POOR_INITIALIZATION,),
            causes=_INIT,
            modules=("right.fc1", "right.out"),
            model=seeded(lambda: at(at(fitted(TwoTowers()), "right.fc1", scaled(1e-3)), "right.out", scaled(1e-3))),
        ),
    )


def _biases() -> tuple[Patient, ...]:
    four = training(digits, "classes", lambda: wide(4), sgd(0.05))
    conv = training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=6)
    tanh = training(digits, "classes", lambda: wide(4, "tanh"), sgd(0.05))
    sigmoid = training(digits, "classes", lambda: fitted(deep(2, nn.Sigmoid), "tanh"), adam(3e-3))

    def fill(value: float) -> Callable[[torch.Tensor], object]:
        return lambda bias: bias.fill_(value)

    return (
        sick(
            "init_bias_kills_layer",
            "The biases of one ReLU layer start at -30: none of its units ever fires.",
            four,
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_INIT,
            modules=("fc2",),
            model=seeded(lambda: at(wide(4), "fc2", fill(-30.0), bias=True)),
        ),
        sick(
            "init_bias_kills_cnn",
            "All convolution biases start at -10 and the ReLUs behind them stay silent.",
            conv,
            conditions=(_C.DEAD_UNITS, _C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_INIT,
            modules=("conv1", "conv2", "conv3"),
            model=seeded(lambda: everywhere(fitted(cnn()), fill(-10.0), bias=True)),
        ),
        sick(
            "init_bias_pins_tanh",
            "The biases of one tanh layer start at 12, where tanh is flat.",
            tanh,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.SATURATION, _C.VANISHING),
            causes=_INIT,
            modules=("fc3",),
            model=seeded(lambda: at(wide(4, "tanh"), "fc3", fill(12.0), bias=True)),
        ),
        sick(
            "init_bias_pins_sigmoid",
            "All hidden biases of a sigmoid network start at -15: every unit is off and flat.",
            sigmoid,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.SATURATION, _C.VANISHING),
            causes=_INIT,
            modules=("fc1", "fc2"),
            model=seeded(lambda: everywhere(fitted(deep(2, nn.Sigmoid), "tanh"), fill(-15.0), bias=True)),
        ),
        sick(
            "init_bias_head",
            "One class starts with a bias of 1000 at the output, which takes thousands of steps to unlearn.",
            four,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_INIT,
            modules=("out",),
            model=seeded(lambda: at(wide(4), "out", lambda bias: bias[3].fill_(1000.0), bias=True)),
        ),
    )


def _depth() -> tuple[Patient, ...]:
    relu = training(digits, "classes", lambda: wide(16), sgd(0.01, 0.9), epochs=24)
    conv = training(digits, "classes", lambda: fitted(cnn(nn.Tanh, convs=12, channels=8), "tanh"), sgd(0.03, 0.9))
    return (
        sick(
            "init_default_deep_relu",
            "Sixteen ReLU layers with PyTorch's default start, which loses 0.4 decades in each.",
            relu,
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: deep(16)),
        ),
        sick(
            "init_default_deep_cnn",
            "Twelve tanh convolutions with PyTorch's default start.",
            conv,
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: cnn(nn.Tanh, convs=12, channels=8)),
        ),
        sick(
            "init_default_deep_gelu",
            "Sixteen GELU layers with PyTorch's default start.",
            training(digits, "classes", lambda: fitted(deep(16, nn.GELU), "gelu"), sgd(0.02, 0.9), epochs=20),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: deep(16, nn.GELU)),
        ),
        sick(
            "init_linear_factor",
            "After construction every weight of a CNN is multiplied by 8, meant as a temperature.",
            training(digits, "classes", lambda: fitted(cnn(convs=4)), sgd(0.03), epochs=6),
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: everywhere(fitted(cnn(convs=4)), scaled(8.0))),
        ),
    )
