"""Bad starts of other parts: norms, buffers, bare parameters, attention, embeddings, residual branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import digits, recall, teacher
from graddoctor.testing._nets import Functional, ResidualMLP, Transformer, fitted, mlp
from graddoctor.testing._patient import Patient, adam, seeded, sgd, sick, training
from graddoctor.testing._starts import deep, everywhere, wide

_C = Condition
_INIT = (Cause.INITIALIZATION,)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_special_parts(), *_other_shapes())


class _Buffered(nn.Module):
    """Linear, ReLU, times a buffer."""

    scale: torch.Tensor

    def __init__(self, hidden: int, scale: float) -> None:
        super().__init__()
        self.net = wide(hidden)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, module in self.net.named_children():
            x = module(x)
            if name.startswith("fc"):
                x = x * self.scale
        return x


def _norm_gain(value: float, act: Callable[[], nn.Module], norm: Callable[[int], nn.Module]) -> nn.Module:
    model = fitted(deep(4, act, norm=norm), "tanh")
    for name, module in model.named_modules():
        if name.startswith("norm"):
            nn.init.constant_(module.weight, value)
    return model


def _weight_normed(size: float | None) -> nn.Module:
    model = wide(6)
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
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: _Buffered(6, 0.01)),
        ),
        sick(
            "init_norm_gain_tiny",
            "The gains of four LayerNorms start at a millionth.",
            training(digits, "classes", lambda: _norm_gain(1.0, nn.Tanh, nn.LayerNorm), sgd(0.05)),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=(Cause.INITIALIZATION, Cause.NORMALIZATION, Cause.LEARNING_RATE),
            modules=("norm1", "norm2", "norm3", "norm4"),
            model=seeded(lambda: _norm_gain(1e-6, nn.Tanh, nn.LayerNorm)),
        ),
        sick(
            "init_norm_gain_huge",
            "The gains of four BatchNorms start at 60 and pin the tanh units behind them.",
            training(digits, "classes", lambda: _norm_gain(1.0, nn.Tanh, nn.BatchNorm1d), sgd(0.05)),
            conditions=(_C.PLATEAU, _C.SATURATION),
            causes=(Cause.INITIALIZATION, Cause.NORMALIZATION),
            modules=("norm1", "norm2", "norm3", "norm4"),
            model=seeded(lambda: _norm_gain(60.0, nn.Tanh, nn.BatchNorm1d)),
        ),
        sick(
            "init_weight_norm",
            "Weight-normalised layers start with lengths of 0.01.",
            training(digits, "classes", lambda: _weight_normed(None), sgd(0.03)),
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: _weight_normed(0.01)),
        ),
        sick(
            "init_functional_tiny",
            "Bare parameters of a functional tanh network, drawn from N(0, 0.02²).",
            training(digits, "classes", _functional(sizes, lambda n: n**-0.5), sgd(0.05)),
            conditions=(_C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(_functional(sizes, lambda _: 0.02)),
        ),
        sick(
            "init_functional_huge",
            "Bare parameters of a functional tanh network, drawn from N(0, 1.5²).",
            training(digits, "classes", _functional(sizes, lambda n: n**-0.5), sgd(0.05)),
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.SATURATION, _C.VANISHING),
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
            module.weight.mul_(60.0)


def _other_shapes() -> tuple[Patient, ...]:
    attention = training(recall, "classes", Transformer, adam(5e-3))
    return (
        sick(
            "init_attention_sharp",
            "Query and key projections start sixty times too large: each softmax picks one place and is flat.",
            attention,
            conditions=(_C.EXPLODING, _C.PLATEAU, _C.SATURATION),
            causes=_INIT,
            modules=tuple(f"blocks.{i}.attention.{part}" for i in (0, 1) for part in ("query", "key")),
            model=seeded(_attention(_sharp)),
        ),
        sick(
            "init_embedding_huge",
            "Token embeddings of spread 300 drown what the blocks add to the stream.",
            attention,
            conditions=(_C.PLATEAU, _C.SATURATION),
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
            conditions=(_C.EXPLODING, _C.NON_FINITE, _C.POOR_INITIALIZATION),
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
            conditions=(_C.DEAD_UNITS, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=_INIT,
            model=seeded(lambda: everywhere(mlp((12, *(48,) * 7, 1)), lambda w: nn.init.normal_(w, std=0.02))),
        ),
    )
