"""Sound trainings with unusual settings, sound trainings of every plain kind, and odd numbers that do no harm."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from graddoctor.testing._data import (
    Tensors,
    circles,
    digits,
    moons,
    pairs,
    recall,
    tabular,
)
from graddoctor.testing._nets import (
    Attention,
    Fn,
    Functional,
    Recurrent,
    Transformer,
    TwoTowers,
    cnn,
    fitted,
    mlp,
)
from graddoctor.testing._patient import Patient, adam, plain_loss, sgd, sound, training
from graddoctor.testing._starts import at, scaled
from graddoctor.testing.sound import four

_FOUR = (64, 64, 64, 64, 10)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_optimizers(), *_plain(), *_numbers())


def _loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    draw = torch.Generator().manual_seed(11)
    return DataLoader(TensorDataset(*digits().train), batch_size=64, shuffle=True, drop_last=True, generator=draw)


def _optimizers() -> tuple[Patient, ...]:
    def normed() -> nn.Module:
        return mlp(_FOUR, norm=nn.BatchNorm1d)

    return (
        sound(
            "sound_one_cycle",
            "OneCycle up to a rate of 1 on a network with BatchNorm.",
            training(
                digits,
                "classes",
                normed,
                sgd(0.1, 0.9),
                scheduler=lambda optimizer, steps: lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=steps),
            ),
        ),
        sound(
            "sound_clipped_always",
            "The clip is active at every step and makes SGD walk with an even pace.",
            training(
                digits, "classes", four, sgd(0.3), clip=partial(torch.nn.utils.clip_grad_norm_, max_norm=0.3), epochs=14
            ),
        ),
        sound(
            "sound_cosine_to_zero",
            "A cosine down to nearly nothing at the end of the run.",
            training(
                digits,
                "classes",
                four,
                sgd(0.2),
                scheduler=lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5),
            ),
        ),
        sound(
            "sound_short_warmup",
            "A transformer with a warm-up over thirty steps.",
            training(
                recall,
                "classes",
                Transformer,
                adam(5e-3),
                scheduler=lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.01, 1.0, total_iters=30),
            ),
        ),
        sound(
            "sound_moderate_decay",
            "AdamW with a decay of 0.1.",
            training(digits, "classes", four, lambda m: torch.optim.AdamW(m.parameters(), 3e-3, weight_decay=0.1)),
        ),
        sound(
            "sound_momentum",
            "Momentum 0.95 at a rate that suits it.",
            training(digits, "classes", four, sgd(0.02, 0.95)),
        ),
        sound(
            "sound_decay_late",
            "A step decay by ten when all is learned.",
            training(
                digits,
                "classes",
                four,
                sgd(0.15),
                scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, 9, 0.1),
                scheduler_every="epoch",
            ),
        ),
        sound(
            "sound_big_batches",
            "Batches of 350 under SGD at 0.5: few, smooth steps.",
            training(digits, "classes", four, sgd(0.3, 0.9), size=350, epochs=25),
        ),
        sound(
            "sound_accumulated",
            "Four micro-batches of 16 make one step.",
            training(digits, "classes", four, sgd(0.1), size=16, accumulate=4),
        ),
        sound(
            "sound_dataloader",
            "A DataLoader instead of a function.",
            training(digits, "classes", four, sgd(0.1), batches=_loader),
        ),
    )


def _bare_attention() -> nn.Module:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(9, 32), nn.Embedding(10, 32)
            self.mix = nn.ModuleList(Attention(32, 4) for _ in range(2))
            self.norm, self.out = nn.LayerNorm(32), nn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.tokens(x) + self.places.weight
            for layer in self.mix:
                h = h + functional.gelu(layer(self.norm(h)))
            return self.out(self.norm(h).mean(1))  # type: ignore[no-any-return]

    return Bare()


def _plain() -> tuple[Patient, ...]:
    def build(act: Callable[[], nn.Module], kind: str) -> Callable[[], nn.Module]:
        return lambda: fitted(mlp(_FOUR, act), kind)

    return (
        sound(
            "sound_gelu",
            "GELU layers of the right start.",
            training(digits, "classes", build(nn.GELU, "gelu"), sgd(0.1)),
        ),
        sound("sound_silu", "SiLU layers under Adam.", training(digits, "classes", build(nn.SiLU, "silu"), adam(3e-3))),
        sound(
            "sound_selu_deep",
            "Sixteen SELU layers without any norm.",
            training(
                digits, "classes", lambda: fitted(mlp((64, *(48,) * 16, 10), nn.SELU), "selu"), sgd(0.01), epochs=14
            ),
        ),
        sound(
            "sound_lstm",
            "A short LSTM that reads ten words; the answer stands anywhere.",
            training(lambda: recall(length=6, words=4), "classes", lambda: Recurrent(5, 32, 4), adam(1e-2), epochs=20),
        ),
        sound("sound_cnn", "A plain CNN.", training(digits, "classes", lambda: fitted(cnn()), sgd(0.1), epochs=12)),
        sound("sound_transformer", "A pre-norm transformer.", training(recall, "classes", Transformer, adam(5e-3))),
        sound(
            "sound_attention_only",
            "Attention without feed-forward layers.",
            training(recall, "classes", _bare_attention, adam(1e-2)),
        ),
        sound(
            "sound_two_towers",
            "Two inputs, two towers, no evaluation.",
            training(pairs, "classes", lambda: fitted(TwoTowers()), sgd(0.1), epochs=30, judged=False),
        ),
        sound(
            "sound_functional",
            "Bare parameters and torch.tanh.",
            training(digits, "classes", lambda: Functional(_FOUR, torch.tanh, lambda n: n**-0.5), sgd(0.2)),
        ),
        sound(
            "sound_linear",
            "A linear classifier: no hidden layer, nothing to vanish.",
            training(digits, "classes", lambda: nn.Linear(64, 10), sgd(0.2), epochs=15),
        ),
        sound(
            "sound_table",
            "A regression on a mixed table.",
            training(tabular, "real", lambda: fitted(mlp((10, 48, 48, 1))), sgd(0.05, 0.9), epochs=20),
        ),
        sound(
            "sound_binary",
            "One logit and a logistic loss.",
            training(lambda: moons(binary=True), "binary", lambda: fitted(mlp((2, 24, 24, 1))), sgd(0.5), epochs=40),
        ),
    )


def _normalised_pixels() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(64), fitted(mlp((64, 64, 64, 10))))


def _log_softmax_twice() -> nn.Module:
    return nn.Sequential(four(), nn.LogSoftmax(dim=1))


def _off_centre(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    return functional.cross_entropy(model(images + 0.8), labels)


def _numbers() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_log_softmax_twice",
            "log_softmax before cross entropy, which applies it again: the second changes nothing.",
            training(digits, "classes", _log_softmax_twice, sgd(0.1)),
        ),
        sound(
            "sound_pixels_normed",
            "Pixels from 0 to 255 into a network that begins with BatchNorm.",
            training(lambda: digits(standardised=False), "classes", _normalised_pixels, sgd(0.1)),
        ),
        sound(
            "sound_not_centred",
            "Inputs with a mean of nearly one spread.",
            training(digits, "classes", four, sgd(0.05), loss=_off_centre, judged=False),
        ),
        sound(
            "sound_autocast_bfloat16",
            "bfloat16 autocast over float32 weights.",
            training(digits, "classes", four, sgd(0.1), precision=torch.bfloat16),
        ),
        sound(
            "sound_large_loss",
            "The loss is multiplied by ten thousand; Adam divides it out again.",
            training(
                digits,
                "classes",
                four,
                adam(3e-3),
                loss=lambda model, batch: 1e4 * plain_loss("classes")(model, batch),
            ),
        ),
        sound(
            "sound_sigmoid_on_unit_targets",
            "A sigmoid at the end of a regression whose targets lie between 0 and 1.",
            training(
                circles,
                "classes",
                lambda: nn.Sequential(fitted(mlp((2, 32, 32, 2))), nn.Sigmoid()),
                sgd(1.0, 0.9),
                epochs=20,
                loss=lambda model, batch: functional.mse_loss(model(batch[0]), functional.one_hot(batch[1], 2).float()),
            ),
        ),
        sound(
            "sound_weight_normed",
            "Huge weights before a LayerNorm, which divides them out.",
            training(digits, "classes", _huge_before_norm, adam(3e-3)),
        ),
        sound(
            "sound_scaled_head",
            "Logits are divided by the root of the width, as in wide-network parametrisations.",
            training(
                digits,
                "classes",
                lambda: nn.Sequential(four(), Fn(lambda x: x / math.sqrt(10))),
                sgd(0.3),
            ),
        ),
    )


def _huge_before_norm() -> nn.Module:
    model = fitted(mlp(_FOUR, norm=nn.LayerNorm))
    for index in (1, 2, 3):
        at(model, f"fc{index}", scaled(10.0))
    return model
