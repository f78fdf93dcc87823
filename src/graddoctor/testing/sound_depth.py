"""Sound deep networks and transformers that look sick: plain but not too deep, zeroed, tied, or hardly attending."""

from __future__ import annotations

import torch
from torch import nn

from graddoctor.testing._data import digits
from graddoctor.testing._deep_nets import Deep, conv, dense, image_head, image_stem
from graddoctor.testing._nets import Fn, fitted, mlp
from graddoctor.testing._patient import Patient, adam, sgd, sound
from graddoctor.testing._patient import training as plain_training
from graddoctor.testing.attention import reader, reading, reweighted
from graddoctor.testing.depth import stacked


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_plain(), *_streams(), *_attention())


def _plain() -> tuple[Patient, ...]:
    def convs() -> nn.Module:
        return fitted(Deep(image_stem(8), conv(8), 10, image_head(8)))

    def narrow() -> nn.Module:
        return fitted(mlp((64, *(16,) * 12, 10), nn.Identity), "linear")

    return (
        sound(
            "sound_depth_plain_twelve",
            "Twelve layers with BatchNorm and ReLU in a row, which is not yet too many.",
            plain_training(digits, "classes", stacked(dense(32, norm=nn.BatchNorm1d), 12), sgd(0.05, 0.9), epochs=8),
        ),
        sound(
            "sound_depth_cnn_plain",
            "Ten narrow convolutions with BatchNorm in a row.",
            plain_training(digits, "classes", convs, sgd(0.05, 0.9), epochs=6),
        ),
        sound(
            "sound_depth_linear",
            "Twelve narrow linear layers without activations: they can only tell what one could, and do.",
            plain_training(digits, "classes", narrow, adam(2e-3), epochs=10),
        ),
    )


class _Zeroed(nn.Module):
    """A branch times a scalar that starts at zero (ReZero: Bachlechner et al., 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc, self.alpha = nn.Linear(width, width), nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alpha * torch.relu(self.fc(x))


def _streams() -> tuple[Patient, ...]:
    def rezero() -> nn.Module:
        return Deep(nn.Linear(64, 32), lambda: _Zeroed(32), 24, nn.Linear(32, 10), skip=True)

    def tied() -> nn.Module:
        shared = fitted(nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)), gain=0.3)
        return Deep(nn.Linear(64, 32), lambda: Fn(shared), 12, nn.Linear(32, 10), skip=True)

    return (
        sound(
            "sound_depth_rezero",
            "Twenty-four branches that start at zero, so that their layers get no gradient at the first step.",
            plain_training(digits, "classes", rezero, adam(3e-3), epochs=6),
        ),
        sound(
            "sound_depth_tied",
            "One layer, used twelve times over.",
            plain_training(digits, "classes", tied, adam(3e-3), epochs=6),
        ),
    )


def _attention() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_attention_even",
            "Queries and keys start a hundred times too small, so that every place attends to all alike at first.",
            reading(lambda: reweighted(reader(), 0.01, "query", "key")),
        ),
        sound(
            "sound_attention_post_norm",
            "Four blocks with their norms after the additions, at a rate that suits them.",
            reading(lambda: reader(4, "post"), 1e-3),
        ),
    )
