"""Broken ways from the loss to the parameters: detached, frozen, forgotten, multiplied by nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import circles, digits, pairs, recall, teacher
from graddoctor.testing._nets import Fn, Transformer, TwoTowers, fitted, mlp
from graddoctor.testing._patient import Optimizer, Patient, adam, seeded, sgd, sick, training

_C = Condition
_GRAPH = (Cause.GRAPH,)
_CUT = (_C.DISCONNECTED,)


class _Split(nn.Module):
    """A narrow body and a head, with a way between them that can be spoilt."""

    def __init__(self, way: Callable[[torch.Tensor], torch.Tensor], *, recorded: bool = True) -> None:
        super().__init__()
        self.body = fitted(mlp((64, 8, 8, 8), nn.Tanh), "tanh")
        self.head = fitted(mlp((8, 16, 10)))
        self.way, self.recorded = way, recorded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(self.recorded and torch.is_grad_enabled()):
            features = self.body(x)
        return self.head(self.way(features))  # type: ignore[no-any-return]


def _plain() -> nn.Module:
    return _Split(lambda x: x)


def _frozen_body() -> nn.Module:
    model = _plain()
    model.get_submodule("body").requires_grad_(False)
    return model


def _only(prefix: str, lr: float) -> Optimizer:
    return lambda model: torch.optim.SGD([p for n, p in model.named_parameters() if n.startswith(prefix)], lr=lr)


class _Towers(TwoTowers):
    """Two towers of which the right one can be cut off or weighed with nothing."""

    def __init__(self, weight: float = 1.0, *, cut: bool = False, ignored: bool = False) -> None:
        super().__init__()
        self.weight, self.cut, self.ignored = weight, cut, ignored
        fitted(self)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        seen, other = self.left(left), self.right(right)
        if self.cut:
            other = other.detach()
        if self.ignored:
            other = seen
        return self.head(torch.cat([seen, self.weight * other], dim=1))  # type: ignore[no-any-return]


class _Backbone(nn.Module):
    """A backbone and a linear head that reads either its features or, by mistake, the raw points."""

    def __init__(self, *, bypassed: bool) -> None:
        super().__init__()
        self.backbone = fitted(mlp((2, 24, 24, 2)))
        self.head = nn.Linear(2, 2)
        self.bypassed = bypassed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.backbone(x)
        return self.head(x if self.bypassed else features)  # type: ignore[no-any-return]


class _NumpyTrip(nn.Module):
    """Features leave torch and come back as new tensors on the way to the head."""

    def __init__(self, *, leaves: bool) -> None:
        super().__init__()
        self.body, self.head = fitted(mlp((12, 4, 4, 4), nn.Tanh), "tanh"), nn.Linear(4, 1)
        self.leaves = leaves

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        if self.leaves:
            features = torch.tensor(features.detach().numpy())
        return self.head(features)  # type: ignore[no-any-return]


def _quiet_attention() -> nn.Module:
    model = Transformer()
    for name, module in model.named_modules():
        if name.endswith("attention"):
            module.register_forward_hook(lambda _module, _inputs, output: output * 0.0)
    return model


def _detached_attention() -> nn.Module:
    model = Transformer(blocks=2)
    blocks = model.blocks
    model.blocks = nn.Sequential(blocks[0], Fn(lambda x: 0.02 * x.detach()), blocks[1])
    return model


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_cut_off(), *_left_out(), *_weighed_out())


def _cut_off() -> tuple[Patient, ...]:
    base = training(digits, "classes", _plain, sgd(0.2), epochs=16)
    return (
        sick(
            "graph_detached_body",
            "features.detach() between a narrow body and the head.",
            base,
            conditions=(_C.DISCONNECTED, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("body",),
            model=seeded(lambda: _Split(torch.Tensor.detach)),
        ),
        sick(
            "graph_no_grad_body",
            "The body runs under torch.no_grad(), left over from evaluation.",
            base,
            conditions=(_C.DISCONNECTED, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("body",),
            model=seeded(lambda: _Split(lambda x: x, recorded=False)),
        ),
        sick(
            "graph_sign_features",
            "torch.sign between body and head: its slope is zero everywhere.",
            base,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION, _C.VANISHING),
            causes=(Cause.GRAPH, Cause.ACTIVATION),
            modules=("body",),
            model=seeded(lambda: _Split(torch.sign)),
        ),
        sick(
            "graph_numpy_trip",
            "Features pass through numpy on their way to the head of a regression.",
            training(teacher, "real", lambda: _NumpyTrip(leaves=False), sgd(0.05, 0.9), epochs=16),
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("body",),
            model=seeded(lambda: _NumpyTrip(leaves=True)),
        ),
    )


def _left_out() -> tuple[Patient, ...]:
    base = training(digits, "classes", _plain, sgd(0.2), epochs=16)
    rings = training(circles, "classes", lambda: _Backbone(bypassed=False), sgd(0.1), epochs=30, size=50)
    return (
        sick(
            "graph_frozen_by_mistake",
            "Everything but the head was frozen before it ever learned anything.",
            base,
            conditions=(_C.DISCONNECTED,),
            causes=_GRAPH,
            modules=("body",),
            model=seeded(_frozen_body),
        ),
        sick(
            "graph_optimizer_head_only",
            "The optimizer was given the parameters of the head only; gradients flow, nobody applies them.",
            base,
            conditions=(_C.DISCONNECTED,),
            causes=(Cause.GRAPH, Cause.OPTIMIZER),
            modules=("body",),
            optimizer=_only("head", 0.2),
        ),
        sick(
            "graph_backbone_bypassed",
            "The head reads the raw points; the backbone is computed and thrown away.",
            rings,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("backbone",),
            model=seeded(lambda: _Backbone(bypassed=True)),
        ),
    )


def _weighed_out() -> tuple[Patient, ...]:
    two = training(pairs, "classes", _Towers, sgd(0.1), epochs=30)
    attention = training(recall, "classes", Transformer, adam(5e-3))
    return (
        sick(
            "graph_tower_times_zero",
            "A branch weight of 0 was left in after an ablation.",
            two,
            conditions=(_C.DISCONNECTED, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("right",),
            model=seeded(lambda: _Towers(0.0)),
        ),
        sick(
            "graph_tower_ignored",
            "A slip of the pen: the left features are joined with themselves.",
            two,
            conditions=(_C.DISCONNECTED,),
            causes=_GRAPH,
            modules=("right",),
            model=seeded(lambda: _Towers(ignored=True)),
        ),
        sick(
            "graph_attention_times_zero",
            "A hook multiplies what attention adds by zero, so no place hears of another.",
            attention,
            conditions=(_C.DISCONNECTED, _C.PLATEAU, _C.POOR_INITIALIZATION),
            causes=_GRAPH,
            modules=("blocks.0.attention", "blocks.1.attention"),
            model=seeded(_quiet_attention),
        ),
        sick(
            "graph_stream_detached",
            "The residual stream is detached and shrunk between two transformer blocks.",
            attention,
            conditions=(_C.DISCONNECTED, _C.POOR_INITIALIZATION, _C.SATURATION),
            causes=_GRAPH,
            modules=("tokens", "places", "blocks.0"),
            model=seeded(_detached_attention),
        ),
    )
