"""Step sizes: learning rates, momentum, the optimizer's own constants, schedules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from graddoctor.terms import Cause, Condition
from graddoctor.testing._data import digits, recall, tabular, teacher
from graddoctor.testing._nets import ResidualCNN, ResidualMLP, Transformer, cnn, fitted, mlp
from graddoctor.testing._patient import Optimizer, Patient, adam, sgd, sick, training

_C = Condition
_HIGH, _LOW = (_C.LEARNING_RATE_TOO_HIGH,), (_C.LEARNING_RATE_TOO_LOW,)
_RATE = (Cause.LEARNING_RATE,)


def _net() -> nn.Module:
    return fitted(mlp((64, 64, 64, 10)))


def _regressor() -> nn.Module:
    return fitted(mlp((12, 48, 48, 1)))


def _residual() -> nn.Module:
    return ResidualMLP(64, 32, 10, blocks=6)


def _rmsprop(lr: float, **options: Any) -> Optimizer:
    return lambda model: torch.optim.RMSprop(model.parameters(), lr=lr, **options)


def _two_groups(prefix: str, rate: float, rest: float) -> Optimizer:
    def build(model: nn.Module) -> torch.optim.Optimizer:
        chosen = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        others = [p for name, p in model.named_parameters() if not name.startswith(prefix)]
        groups: list[dict[str, Any]] = [{"params": chosen, "lr": rate}, {"params": others}]
        return torch.optim.SGD(groups, lr=rest)

    return build


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_too_low(), *_too_high(), *_momentum(), *_constants(), *_schedules())


def _too_low() -> tuple[Patient, ...]:
    images = training(digits, "classes", _net, sgd(0.1), epochs=10)
    narrow = training(digits, "classes", lambda: fitted(mlp((64, 8, 8, 10), nn.Tanh), "tanh"), sgd(0.2), epochs=16)
    return (
        sick(
            "rate_sgd_low",
            "SGD at 0.0001, a thousandth of what this network likes.",
            images,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=sgd(1e-4),
        ),
        sick(
            "rate_sgd_low_cnn",
            "A CNN under SGD at 0.00001, with momentum.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.03, 0.9), epochs=6),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=sgd(1e-5, 0.9),
        ),
        sick(
            "rate_adam_low",
            "Adam at 0.000001.",
            training(digits, "classes", _net, adam(1e-3), epochs=10),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=adam(1e-6),
        ),
        sick(
            "rate_adamw_low_attention",
            "A transformer under AdamW at 0.00001.",
            training(recall, "classes", Transformer, lambda m: torch.optim.AdamW(m.parameters(), 5e-3)),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=lambda m: torch.optim.AdamW(m.parameters(), 1e-5),
        ),
        sick(
            "rate_rmsprop_low",
            "RMSprop at 0.000002 on a regression, judged by its loss alone.",
            training(teacher, "real", _regressor, _rmsprop(1e-3), judged=False),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=_rmsprop(2e-6),
        ),
        sick(
            "rate_group_low",
            "Two param groups: the narrow hidden layers got 0.000001, the head 0.2.",
            narrow,
            conditions=(_C.LEARNING_RATE_TOO_LOW,),
            causes=_RATE,
            modules=("fc1", "fc2"),
            optimizer=_two_groups("fc", 1e-6, 0.2),
        ),
        sick(
            "rate_adagrad_low",
            "Adagrad at 0.0001, whose steps shrink on top of that.",
            training(digits, "classes", _net, lambda m: torch.optim.Adagrad(m.parameters(), 0.03)),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=lambda m: torch.optim.Adagrad(m.parameters(), 1e-4),
        ),
        sick(
            "rate_low_residual",
            "A residual network under SGD at 0.00003.",
            training(digits, "classes", _residual, sgd(0.05), epochs=8),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=_RATE,
            optimizer=sgd(3e-5),
        ),
    )


def _too_high() -> tuple[Patient, ...]:
    images = training(digits, "classes", _net, sgd(0.1), epochs=10)
    return (
        sick(
            "rate_sgd_high",
            "SGD at 5, fifty times too much: the first steps overshoot and the ReLUs die.",
            images,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU),
            causes=_RATE,
            optimizer=sgd(5.0),
        ),
        sick(
            "rate_sgd_high_cnn",
            "A CNN under SGD at 1.5 with momentum.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.03, 0.9), epochs=6),
            conditions=(_C.DEAD_UNITS, _C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU),
            causes=_RATE,
            optimizer=sgd(1.5, 0.9),
        ),
        sick(
            "rate_regression_high",
            "Squared error under SGD at 1: it diverges within a few steps.",
            training(teacher, "real", _regressor, sgd(0.05), epochs=16),
            conditions=(_C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.NON_FINITE),
            causes=_RATE,
            optimizer=sgd(2.0),
        ),
        sick(
            "rate_adam_high",
            "Adam at 0.5.",
            training(digits, "classes", _net, adam(1e-3), epochs=10),
            conditions=(_C.DEAD_UNITS, _C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU),
            causes=_RATE,
            optimizer=adam(0.5),
        ),
        sick(
            "rate_adam_high_tanh",
            "Adam at 0.3 drives a tanh network into its flat ends.",
            training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 64, 10), nn.Tanh), "tanh"), adam(1e-3)),
            conditions=(_C.LEARNING_RATE_TOO_HIGH, _C.OSCILLATION, _C.PLATEAU, _C.SATURATION),
            causes=_RATE,
            optimizer=adam(0.3),
        ),
        sick(
            "rate_adamw_high_attention",
            "A transformer under AdamW at 0.1.",
            training(recall, "classes", Transformer, lambda m: torch.optim.AdamW(m.parameters(), 5e-3)),
            conditions=(_C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU, _C.SATURATION),
            causes=_RATE,
            optimizer=lambda m: torch.optim.AdamW(m.parameters(), 0.1),
        ),
        sick(
            "rate_rmsprop_high",
            "RMSprop at 0.3.",
            training(digits, "classes", _net, _rmsprop(1e-3)),
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH),
            causes=_RATE,
            optimizer=_rmsprop(0.3),
        ),
        sick(
            "rate_group_high",
            "Two param groups: the first layer got a rate of 30, the others 0.1.",
            images,
            conditions=(_C.DEAD_UNITS, _C.LEARNING_RATE_TOO_HIGH, _C.PLATEAU, _C.VANISHING),
            causes=_RATE,
            modules=("fc1",),
            optimizer=_two_groups("fc1", 30.0, 0.1),
        ),
        sick(
            "rate_high_residual",
            "A post-activation residual CNN without norms under SGD at 2.",
            training(digits, "classes", lambda: ResidualCNN(norm=False), sgd(0.05), epochs=8),
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.NON_FINITE),
            causes=_RATE,
            optimizer=sgd(2.0),
        ),
    )


def _momentum() -> tuple[Patient, ...]:
    images = training(digits, "classes", _net, sgd(0.03, 0.9), epochs=10)
    table = training(tabular, "real", lambda: fitted(mlp((10, 48, 48, 1))), sgd(0.05, 0.9), epochs=20)
    cause = (Cause.MOMENTUM, Cause.LEARNING_RATE)
    return (
        sick(
            "momentum_high",
            "Momentum 0.999 at a rate of 0.03: a thousand steps of memory in a run of two hundred.",
            images,
            conditions=(_C.DEAD_UNITS, _C.LEARNING_RATE_TOO_HIGH, _C.OSCILLATION, _C.PLATEAU),
            causes=cause,
            optimizer=sgd(0.03, 0.999),
        ),
        sick(
            "momentum_high_regression",
            "Momentum 0.998 swings around the solution of a regression.",
            table,
            conditions=(_C.DEAD_UNITS,),
            causes=cause,
            optimizer=sgd(0.05, 0.998),
        ),
        sick(
            "momentum_nesterov_cnn",
            "Nesterov momentum of 0.998 on a CNN.",
            training(digits, "classes", lambda: fitted(cnn()), sgd(0.03, 0.9), epochs=6),
            conditions=(_C.OSCILLATION, _C.PLATEAU),
            causes=cause,
            optimizer=sgd(0.03, 0.998, nesterov=True),
        ),
    )


def _constants() -> tuple[Patient, ...]:
    images = training(digits, "classes", _net, adam(1e-3), epochs=10)
    cause = (Cause.OPTIMIZER, Cause.LEARNING_RATE)
    return (
        sick(
            "optimizer_adam_epsilon",
            "Adam's epsilon is 100, so that its steps are gradients times a hundred-thousandth.",
            images,
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            optimizer=adam(1e-3, eps=100.0),
        ),
        sick(
            "optimizer_rmsprop_epsilon",
            "RMSprop's epsilon is 10 on a transformer.",
            training(recall, "classes", Transformer, _rmsprop(3e-3)),
            conditions=(_C.PLATEAU,),
            causes=cause,
            optimizer=_rmsprop(3e-3, eps=10.0),
        ),
        sick(
            "optimizer_adadelta",
            "Adadelta at 0.001, where its own default is 1.",
            training(digits, "classes", _net, lambda m: torch.optim.Adadelta(m.parameters(), 1.0)),
            conditions=(_C.LEARNING_RATE_TOO_LOW, _C.PLATEAU),
            causes=cause,
            optimizer=lambda m: torch.optim.Adadelta(m.parameters(), 1e-3),
        ),
    )


def _schedules() -> tuple[Patient, ...]:
    cause = (Cause.SCHEDULE,)
    images = training(digits, "classes", _net, sgd(0.05), epochs=10)
    maps = training(digits, "classes", lambda: fitted(cnn()), sgd(0.05), epochs=8)
    attention = training(recall, "classes", Transformer, adam(5e-3))
    return (
        sick(
            "schedule_decays_at_once",
            "An exponential decay of 0.5 meant for epochs is stepped every batch.",
            images,
            conditions=(_C.PLATEAU,),
            causes=cause,
            scheduler=lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5),
        ),
        sick(
            "schedule_warmup_endless",
            "A warm-up over a million steps in a run of a few hundred.",
            attention,
            conditions=(_C.PLATEAU,),
            causes=cause,
            scheduler=lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1e6),
        ),
        sick(
            "schedule_step_tiny_gamma",
            "A step decay with gamma 0.001 after the first epoch.",
            maps,
            conditions=(_C.PLATEAU,),
            causes=cause,
            scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 1e-3),
            scheduler_every="epoch",
        ),
        sick(
            "schedule_one_cycle_absurd",
            "OneCycle with a top rate of 30.",
            images,
            conditions=(_C.DEAD_UNITS, _C.EXPLODING, _C.LEARNING_RATE_TOO_HIGH, _C.OSCILLATION),
            causes=(Cause.SCHEDULE, Cause.LEARNING_RATE),
            scheduler=lambda optimizer, steps: lr_scheduler.OneCycleLR(optimizer, max_lr=30.0, total_steps=steps),
        ),
        sick(
            "schedule_cosine_short",
            "A cosine that reaches zero after eight steps and is then held there.",
            training(teacher, "real", _regressor, sgd(0.02), epochs=16, judged=False),
            conditions=(_C.PLATEAU,),
            causes=cause,
            scheduler=lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 8)),
        ),
    )
