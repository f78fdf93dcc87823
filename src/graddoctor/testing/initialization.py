"""Bad starts: weights, biases, gains and buffers of the wrong size, in one layer or all, set in many ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from graddoctor.diagnose.terms import Cause, Condition
from graddoctor.testing._data import digits, pairs, recall, teacher
from graddoctor.testing._nets import Functional, ResidualMLP, Transformer, TwoTowers, cnn, fitted, mlp
from graddoctor.testing._patient import Patient, adam, seeded, sgd, sick, training

_C = Condition
_INIT = (Cause.INITIALIZATION,)


def _deep(hidden: int, act: Callable[[], nn.Module] = nn.ReLU, **options: object) -> nn.Sequential:
    return mlp((64, *(64,) * hidden, 10), act, **options)  # type: ignore[arg-type]


def _wide(hidden: int, kind: str = "relu") -> nn.Module:
    return fitted(_deep(hidden, nn.ReLU if kind == "relu" else nn.Tanh), kind)


def _at(model: nn.Module, name: str, change: Callable[[torch.Tensor], object], *, bias: bool = False) -> nn.Module:
    layer = model.get_submodule(name)
    with torch.no_grad():
        change(layer.bias if bias else layer.weight)  # type: ignore[arg-type]
    return model


def _everywhere(model: nn.Module, change: Callable[[torch.Tensor], object], *, bias: bool = False) -> nn.Module:
    def visit(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            with torch.no_grad():
                change(module.bias if bias else module.weight)

    return model.apply(visit)


def _scaled(factor: float) -> Callable[[torch.Tensor], object]:
    return lambda weight: weight.mul_(factor)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_weights(), *_single_layers(), *_biases(), *_depth(), *_special_parts(), *_other_shapes())


def _weights() -> tuple[Patient, ...]:
    eight = training(digits, "classes", lambda: _wide(8), sgd(0.03))
    tanh = training(digits, "classes", lambda: _wide(10, "tanh"), sgd(0.05))
    shallow = training(digits, "classes", lambda: _wide(3), sgd(0.05))
    return (
        sick(
            "init_normal_tiny",
            "Every weight is drawn from N(0, 0.01²), a tenth of what ReLU layers of this width need.",
            eight,
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(8), lambda w: nn.init.normal_(w, std=0.01))),
        ),
        sick(
            "init_normal_huge",
            "Every weight is drawn from N(0, 1): the signal grows sixfold in each layer.",
            eight,
            conditions=(_C.EXPLODING, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(8), nn.init.normal_)),
        ),
        sick(
            "init_uniform_apply",
            "model.apply draws the weights of ten tanh layers from U(-0.05, 0.05).",
            tanh,
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(10, "tanh"), lambda w: nn.init.uniform_(w, -0.05, 0.05))),
        ),
        sick(
            "init_xavier_gain",
            "Xavier with gain 12 pins ten tanh layers at their ends from the first step.",
            tanh,
            conditions=(_C.SATURATION, _C.EXPLODING),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(10, "tanh"), lambda w: nn.init.xavier_normal_(w, 12.0))),
        ),
        sick(
            "init_constant",
            "All weights of a tanh network hold the same number, so all units of a layer stay the same unit.",
            training(digits, "classes", lambda: _wide(3, "tanh"), sgd(0.05)),
            conditions=(_C.POOR_INITIALIZATION,),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(3, "tanh"), lambda w: nn.init.constant_(w, 0.05))),
        ),
        sick(
            "init_zeros",
            "Weights and biases start at zero: behind the head no gradient flows at all.",
            shallow,
            conditions=(_C.POOR_INITIALIZATION, _C.DEAD_UNITS, _C.PLATEAU, _C.DISCONNECTED),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(3), nn.init.zeros_)),
        ),
        sick(
            "init_orthogonal_small",
            "Orthogonal matrices with gain 0.3 in twelve tanh layers.",
            training(digits, "classes", lambda: _wide(12, "tanh"), sgd(0.05)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(12, "tanh"), lambda w: nn.init.orthogonal_(w, 0.3))),
        ),
        sick(
            "init_orthogonal_large",
            "Orthogonal matrices with gain 4 in eight ReLU layers.",
            eight,
            conditions=(_C.EXPLODING, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: _everywhere(_wide(8), lambda w: nn.init.orthogonal_(w, 4.0))),
        ),
    )


def _single_layers() -> tuple[Patient, ...]:
    six = training(digits, "classes", lambda: _wide(6), sgd(0.03))
    tanh = training(digits, "classes", lambda: _wide(5, "tanh"), sgd(0.05))

    def half() -> nn.Module:
        model = _wide(8)
        for index in range(1, 5):
            _at(model, f"fc{index}", _scaled(0.03))
        return model

    return (
        sick(
            "init_two_layers_tiny",
            "The third and the fourth of six ReLU layers start a thousand times too small.",
            six,
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            modules=("fc3", "fc4"),
            model=seeded(lambda: _at(_at(_wide(6), "fc3", _scaled(1e-3)), "fc4", _scaled(1e-3))),
        ),
        sick(
            "init_one_layer_saturates",
            "The second of five tanh layers starts a thousand times too large and its units are pinned.",
            tanh,
            conditions=(_C.SATURATION,),
            causes=_INIT,
            modules=("fc2",),
            model=seeded(lambda: _at(_wide(5, "tanh"), "fc2", _scaled(1000.0))),
        ),
        sick(
            "init_half_tiny",
            "The first four of eight ReLU layers start thirty times too small.",
            training(digits, "classes", lambda: _wide(8), sgd(0.03)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            modules=("fc1", "fc2", "fc3", "fc4"),
            model=seeded(half),
        ),
        sick(
            "init_head_huge",
            "The output layer starts a thousand times too large: the first losses are in the hundreds.",
            six,
            conditions=(_C.POOR_INITIALIZATION, _C.EXPLODING),
            causes=_INIT,
            modules=("out",),
            model=seeded(lambda: _at(_wide(6), "out", _scaled(300.0))),
        ),
        sick(
            "init_tower_tiny",
            "One of two input towers starts at a millionth, so its input does not reach the head.",
            training(pairs, "classes", lambda: fitted(TwoTowers()), sgd(0.1), epochs=30),
            conditions=(_C.POOR_INITIALIZATION,),
            causes=_INIT,
            modules=("right.fc1", "right.out"),
            model=seeded(lambda: _at(_at(fitted(TwoTowers()), "right.fc1", _scaled(1e-3)), "right.out", _scaled(1e-3))),
        ),
    )


def _biases() -> tuple[Patient, ...]:
    four = training(digits, "classes", lambda: _wide(4), sgd(0.05))
    conv = training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=6)
    tanh = training(digits, "classes", lambda: _wide(4, "tanh"), sgd(0.05))
    sigmoid = training(digits, "classes", lambda: fitted(_deep(2, nn.Sigmoid), "tanh"), adam(3e-3))

    def fill(value: float) -> Callable[[torch.Tensor], object]:
        return lambda bias: bias.fill_(value)

    return (
        sick(
            "init_bias_kills_layer",
            "The biases of one ReLU layer start at -30: none of its units ever fires.",
            four,
            conditions=(_C.DEAD_UNITS, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            modules=("fc2",),
            model=seeded(lambda: _at(_wide(4), "fc2", fill(-30.0), bias=True)),
        ),
        sick(
            "init_bias_kills_cnn",
            "All convolution biases start at -10 and the ReLUs behind them stay silent.",
            conv,
            conditions=(_C.DEAD_UNITS, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            modules=("conv1", "conv2", "conv3"),
            model=seeded(lambda: _everywhere(fitted(cnn()), fill(-10.0), bias=True)),
        ),
        sick(
            "init_bias_pins_tanh",
            "The biases of one tanh layer start at 12, where tanh is flat.",
            tanh,
            conditions=(_C.SATURATION, _C.PLATEAU),
            causes=_INIT,
            modules=("fc3",),
            model=seeded(lambda: _at(_wide(4, "tanh"), "fc3", fill(12.0), bias=True)),
        ),
        sick(
            "init_bias_pins_sigmoid",
            "All hidden biases of a sigmoid network start at -15: every unit is off and flat.",
            sigmoid,
            conditions=(_C.SATURATION,),
            causes=_INIT,
            modules=("fc1", "fc2"),
            model=seeded(lambda: _everywhere(fitted(_deep(2, nn.Sigmoid), "tanh"), fill(-15.0), bias=True)),
        ),
        sick(
            "init_bias_head",
            "One class starts with a bias of 1000 at the output, which takes thousands of steps to unlearn.",
            four,
            conditions=(_C.POOR_INITIALIZATION,),
            causes=_INIT,
            modules=("out",),
            model=seeded(lambda: _at(_wide(4), "out", lambda bias: bias[3].fill_(1000.0), bias=True)),
        ),
    )


def _depth() -> tuple[Patient, ...]:
    relu = training(digits, "classes", lambda: _wide(16), sgd(0.01, 0.9), epochs=24)
    conv = training(digits, "classes", lambda: fitted(cnn(nn.Tanh, convs=12, channels=8), "tanh"), sgd(0.03, 0.9))
    return (
        sick(
            "init_default_deep_relu",
            "Sixteen ReLU layers with PyTorch's default start, which loses 0.4 decades in each.",
            relu,
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _deep(16)),
        ),
        sick(
            "init_default_deep_cnn",
            "Twelve tanh convolutions with PyTorch's default start.",
            conv,
            conditions=(_C.VANISHING, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: cnn(nn.Tanh, convs=12, channels=8)),
        ),
        sick(
            "init_default_deep_gelu",
            "Sixteen GELU layers with PyTorch's default start.",
            training(digits, "classes", lambda: fitted(_deep(16, nn.GELU), "gelu"), sgd(0.02, 0.9), epochs=20),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _deep(16, nn.GELU)),
        ),
        sick(
            "init_linear_factor",
            "After construction every weight of a CNN is multiplied by 8, meant as a temperature.",
            training(digits, "classes", lambda: fitted(cnn(convs=4)), sgd(0.03), epochs=6),
            conditions=(_C.EXPLODING, _C.POOR_INITIALIZATION),
            causes=_INIT,
            model=seeded(lambda: _everywhere(fitted(cnn(convs=4)), _scaled(8.0))),
        ),
    )


class _Buffered(nn.Module):
    """Linear, ReLU, times a buffer."""

    scale: torch.Tensor

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        self.net = _wide(hidden)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, module in self.net.named_children():
            x = module(x)
            if name.startswith("fc"):
                x = x * self.scale
        return x


def _norm_gain(value: float, act: Callable[[], nn.Module], norm: Callable[[int], nn.Module]) -> nn.Module:
    model = fitted(_deep(4, act, norm=norm), "tanh")
    for name, module in model.named_modules():
        if name.startswith("norm"):
            nn.init.constant_(module.weight, value)  # type: ignore[arg-type]
    return model


def _weight_normed(size: float | None) -> nn.Module:
    model = _wide(6)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear):
            normed = nn.utils.parametrizations.weight_norm(module)
            if size is not None:
                nn.init.constant_(normed.parametrizations.weight.original0, size)
    return model


def _functional(sizes: Sequence[int], std: Callable[[int], float]) -> Callable[[], nn.Module]:
    return lambda: Functional(sizes, torch.tanh, std)


def _special_parts() -> tuple[Patient, ...]:
    sizes = (64, *(64,) * 8, 10)
    return (
        sick(
            "init_buffer_factor",
            "A buffer of 0.01 multiplies every hidden layer in forward, where one of 1 belongs.",
            training(digits, "classes", lambda: _Buffered(6, 1.0), sgd(0.03)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _Buffered(6, 0.01)),
        ),
        sick(
            "init_norm_gain_tiny",
            "The gains of four LayerNorms start at 0.0001.",
            training(digits, "classes", lambda: _norm_gain(1.0, nn.Tanh, nn.LayerNorm), sgd(0.05)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=(Cause.INITIALIZATION, Cause.NORMALIZATION),
            modules=("norm1", "norm2", "norm3", "norm4"),
            model=seeded(lambda: _norm_gain(1e-4, nn.Tanh, nn.LayerNorm)),
        ),
        sick(
            "init_norm_gain_huge",
            "The gains of four BatchNorms start at 60 and pin the tanh units behind them.",
            training(digits, "classes", lambda: _norm_gain(1.0, nn.Tanh, nn.BatchNorm1d), sgd(0.05)),
            conditions=(_C.SATURATION,),
            causes=(Cause.INITIALIZATION, Cause.NORMALIZATION),
            modules=("norm1", "norm2", "norm3", "norm4"),
            model=seeded(lambda: _norm_gain(60.0, nn.Tanh, nn.BatchNorm1d)),
        ),
        sick(
            "init_weight_norm",
            "Weight-normalised layers start with lengths of 0.01.",
            training(digits, "classes", lambda: _weight_normed(None), sgd(0.03)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _weight_normed(0.01)),
        ),
        sick(
            "init_functional_tiny",
            "Bare parameters of a functional tanh network, drawn from N(0, 0.02²).",
            training(digits, "classes", _functional(sizes, lambda n: n**-0.5), sgd(0.05)),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(_functional(sizes, lambda _: 0.02)),
        ),
        sick(
            "init_functional_huge",
            "Bare parameters of a functional tanh network, drawn from N(0, 1.5²).",
            training(digits, "classes", _functional(sizes, lambda n: n**-0.5), sgd(0.05)),
            conditions=(_C.SATURATION, _C.EXPLODING),
            causes=_INIT,
            model=seeded(_functional(sizes, lambda _: 1.5)),
        ),
    )


def _attention(change: Callable[[nn.Module], object], order: str = "pre") -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = Transformer(order=order)
        with torch.no_grad():
            change(model)
        return model

    return build


def _sharp(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if name.endswith(("query", "key")):
            module.weight.mul_(60.0)  # type: ignore[operator]


def _other_shapes() -> tuple[Patient, ...]:
    attention = training(recall, "classes", Transformer, adam(3e-3), epochs=12)
    return (
        sick(
            "init_attention_sharp",
            "Query and key projections start sixty times too large: each softmax picks one place and is flat.",
            attention,
            conditions=(_C.SATURATION,),
            causes=_INIT,
            modules=tuple(f"blocks.{i}.attention.{part}" for i in (0, 1) for part in ("query", "key")),
            model=seeded(_attention(_sharp)),
        ),
        sick(
            "init_embedding_huge",
            "Token embeddings of spread 300 drown what the blocks add to the stream.",
            attention,
            conditions=(_C.POOR_INITIALIZATION,),
            causes=_INIT,
            modules=("tokens",),
            model=seeded(_attention(lambda m: m.tokens.weight.mul_(300.0))),  # type: ignore[operator, union-attr]
        ),
        sick(
            "init_residual_unscaled",
            "Forty residual branches of full size without any norm: the stream grows by 3/2 in each.",
            training(
                digits,
                "classes",
                lambda: fitted(ResidualMLP(64, 32, 10, blocks=40, norm=False, scale=0.16)),
                sgd(0.02),
                epochs=8,
            ),
            conditions=(_C.EXPLODING, _C.POOR_INITIALIZATION),
            causes=(Cause.INITIALIZATION, Cause.NORMALIZATION),
            model=seeded(lambda: fitted(ResidualMLP(64, 32, 10, blocks=40, norm=False))),
        ),
        sick(
            "init_regression_tiny",
            "A regression network whose seven ReLU layers start at N(0, 0.02²); judged by its loss alone.",
            training(
                teacher,
                "real",
                lambda: fitted(mlp((12, *(48,) * 7, 1))),
                sgd(0.01, 0.9),
                epochs=15,
                judged=False,
            ),
            conditions=(_C.VANISHING, _C.POOR_INITIALIZATION, _C.PLATEAU),
            causes=_INIT,
            model=seeded(lambda: _everywhere(mlp((12, *(48,) * 7, 1)), lambda w: nn.init.normal_(w, std=0.02))),
        ),
    )
