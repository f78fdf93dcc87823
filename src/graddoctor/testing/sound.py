"""Sound trainings that look sick: each shows a symptom, or an odd number, and trains well all the same."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from graddoctor.testing._data import (
    Tensors,
    blobs,
    circles,
    digits,
    noisy_blobs,
    recall,
    teacher,
)
from graddoctor.testing._nets import (
    Fn,
    ResidualCNN,
    ResidualMLP,
    Transformer,
    fitted,
    mlp,
)
from graddoctor.testing._patient import Patient, adam, plain_loss, sgd, sound, training
from graddoctor.testing._starts import at, scaled, wide

_FOUR = (64, 64, 64, 64, 10)


def patients() -> tuple[Patient, ...]:
    """All patients of this family."""
    return (*_thin_gradients(), *_still_parts(), *_residual(), *_noisy_losses())


def four() -> nn.Module:
    """Build four ReLU layers of 64 with the start that fits."""
    return fitted(mlp(_FOUR))


def _sparse() -> nn.Module:
    model = fitted(mlp((64, 256, 256, 10)))
    for name, module in model.named_modules():
        if name.startswith("fc"):
            nn.init.constant_(module.bias, -0.8)
    return model


def _gated() -> nn.Module:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.gate = fitted(mlp(_FOUR)), nn.Linear(64, 10)
            nn.init.constant_(self.gate.bias, 9.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * torch.sigmoid(self.gate(x))  # type: ignore[no-any-return]

    return Gated()


def _one_tiny_layer() -> nn.Module:
    return at(wide(6), "fc3", scaled(1e-2))


def _thin_gradients() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_sparse_relu",
            "Wide ReLU layers of which four fifths of the values are zero at any time.",
            training(digits, "classes", _sparse, sgd(0.1)),
        ),
        sound(
            "sound_deep_tanh_adam",
            "Ten tanh layers of PyTorch's default start: hardly any gradient in front, and Adam does not mind.",
            training(digits, "classes", lambda: mlp((64, *(64,) * 10, 10), nn.Tanh), adam(1e-3), epochs=30),
        ),
        sound(
            "sound_sigmoid_shallow",
            "Two sigmoid layers under Adam.",
            training(digits, "classes", lambda: fitted(mlp((64, 64, 64, 10), nn.Sigmoid), "tanh"), adam(1e-2)),
        ),
        sound(
            "sound_small_loss_adam",
            "The loss is divided by ten thousand; Adam divides it out again.",
            training(
                digits,
                "classes",
                four,
                adam(3e-3, eps=1e-12),
                loss=lambda model, batch: 1e-4 * plain_loss("classes")(model, batch),
            ),
        ),
        sound(
            "sound_gates_open_on_purpose",
            "Output gates start wide open, in the flat part of their sigmoid, where they belong.",
            training(digits, "classes", _gated, sgd(0.1)),
        ),
        sound(
            "sound_one_layer_small",
            "One layer starts a hundred times too small and grows into its size within the first epochs.",
            training(digits, "classes", _one_tiny_layer, adam(2e-3)),
        ),
        sound(
            "sound_wide_bottleneck",
            "Eight ReLU units of which some are dead, between wide layers that do not need them.",
            training(blobs, "classes", lambda: fitted(mlp((16, 64, 8, 64, 6))), sgd(0.1), epochs=15),
        ),
        sound(
            "sound_hard_tanh",
            "Hard tanh units, a fifth of them at their ends.",
            training(digits, "classes", lambda: fitted(mlp(_FOUR, nn.Hardtanh), "tanh"), sgd(0.1)),
        ),
    )


class _Probe(nn.Module):
    """A backbone that is frozen on purpose, wide enough that a linear head can read it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = fitted(mlp((64, 256, 256))).requires_grad_(requires_grad=False)
        self.head = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.backbone(x)))  # type: ignore[no-any-return]


class _TwoHeads(nn.Module):
    """A model with a second head that this training does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.body = fitted(mlp((64, 64, 64)))
        self.digit, self.parity = nn.Linear(64, 10), nn.Linear(64, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor] | torch.Tensor:
        features = functional.relu(self.body(x))
        if self.training:
            return {"digit": self.digit(features), "parity": self.parity(features)}
        return self.digit(features)  # type: ignore[no-any-return]


class _Tied(nn.Module):
    """Embeddings that are used to read and to write."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Transformer(words=9, classes=9)
        self.net.out.weight = self.net.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)  # type: ignore[no-any-return]


def _digit_head(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    return functional.cross_entropy(model(images)["digit"], labels)


def _auxiliary(model: nn.Module, batch: Tensors) -> torch.Tensor:
    images, labels = batch
    heads = model(images)
    return functional.cross_entropy(heads["digit"], labels) + 0.3 * functional.cross_entropy(
        heads["parity"], labels % 2
    )


def _unfrozen_late() -> nn.Module:
    model = fitted(mlp(_FOUR))
    model.get_submodule("fc1").requires_grad_(requires_grad=False)
    return model


def _still_parts() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_frozen_backbone",
            "A wide random backbone is frozen on purpose; a linear head reads it well.",
            training(digits, "classes", _Probe, sgd(0.1)),
        ),
        sound(
            "sound_unused_head",
            "The second head of a model for two tasks gets no gradient, for only one task is trained.",
            training(digits, "classes", _TwoHeads, sgd(0.2), loss=_digit_head),
        ),
        sound(
            "sound_auxiliary_loss",
            "Two heads, two losses, one of them weighed less.",
            training(digits, "classes", _TwoHeads, sgd(0.1), loss=_auxiliary),
        ),
        sound(
            "sound_tied_weights",
            "The embedding is the output layer too.",
            training(recall, "classes", _Tied, adam(8e-3), epochs=16),
        ),
        sound(
            "sound_unused_tokens",
            "An embedding of five hundred words of which eight ever occur.",
            training(recall, "classes", lambda: Transformer(words=500), adam(5e-3)),
        ),
        sound(
            "sound_first_layer_frozen",
            "The first layer stays at its random start; the others make up for it.",
            training(digits, "classes", _unfrozen_late, sgd(0.1)),
        ),
        sound(
            "sound_unused_parameter",
            "A parameter kept for checkpoints of an older version takes no part.",
            training(digits, "classes", _with_relic, sgd(0.1)),
        ),
    )


def _with_relic() -> nn.Module:
    model = four()
    model.register_parameter("relic", nn.Parameter(torch.zeros(3)))
    return model


def _zeroed_branches() -> nn.Module:
    model = fitted(ResidualMLP(64, 32, 10, blocks=6, norm=False))
    for name, module in model.named_modules():
        if name.startswith("blocks") and name.endswith("fc2"):
            nn.init.zeros_(module.weight)
    return model


def _shrinking_stream() -> nn.Module:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = ResidualMLP(64, 32, 10, blocks=8)
            self.net.blocks = nn.Sequential(*(nn.Sequential(block, Fn(lambda x: 0.5 * x)) for block in self.net.blocks))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)  # type: ignore[no-any-return]

    return Halved()


def _residual() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_zero_residual",
            "The last layer of every residual branch starts at zero, and so do half of the gradients.",
            training(digits, "classes", _zeroed_branches, sgd(0.05)),
        ),
        sound(
            "sound_post_norm",
            "A transformer with its norms after the additions.",
            training(recall, "classes", lambda: Transformer(order="post"), adam(3e-3), epochs=16),
        ),
        sound(
            "sound_residual_cnn",
            "A residual CNN with BatchNorm.",
            training(digits, "classes", ResidualCNN, sgd(0.05, 0.9), epochs=6),
        ),
        sound(
            "sound_deep_residual",
            "Thirty pre-norm blocks, whose stream grows and whose gradient does too.",
            training(digits, "classes", lambda: ResidualMLP(64, 24, 10, blocks=30), adam(2e-3), epochs=6),
        ),
        sound(
            "sound_shrinking_stream",
            "The stream is halved after each of eight blocks, and the norms make it whole again.",
            training(digits, "classes", _shrinking_stream, adam(3e-3), epochs=10),
        ),
    )


def _noisy_losses() -> tuple[Patient, ...]:
    return (
        sound(
            "sound_label_noise",
            "Three labels of ten are wrong: the loss levels off where it must.",
            training(noisy_blobs, "classes", lambda: mlp((16, 12, 6)), sgd(0.1), epochs=15),
        ),
        sound(
            "sound_rare_classes",
            "One class holds 85 % of the samples, so the loss of a constant is low from the start.",
            training(lambda: blobs(rare=True), "classes", lambda: fitted(mlp((16, 32, 6))), sgd(0.1), epochs=15),
        ),
        sound(
            "sound_noise_floor",
            "A fifth of the target's variance is noise that nothing can explain.",
            training(
                lambda: teacher(noise=0.5),
                "real",
                lambda: fitted(mlp((12, 16, 1), nn.Tanh), "tanh"),
                sgd(0.1),
                epochs=40,
            ),
        ),
        sound(
            "sound_small_batches",
            "Batches of four: the step loss jumps about while the epoch loss falls.",
            training(digits, "classes", lambda: fitted(mlp((64, 32, 10))), sgd(0.03), epochs=3, size=4),
        ),
        sound(
            "sound_heavy_dropout",
            "Half of all units are dropped, which keeps the training loss high.",
            training(digits, "classes", lambda: fitted(mlp((64, 256, 256, 10), drop=0.5)), adam(2e-3), epochs=16),
        ),
        sound(
            "sound_overlapping_clouds",
            "Clouds that overlap, so that no classifier can be sure.",
            training(lambda: blobs(spread=2.6), "classes", lambda: fitted(mlp((16, 24, 6))), sgd(0.1), epochs=12),
        ),
        sound(
            "sound_noisy_rings",
            "Rings so blurred that one point in six lies on the wrong one.",
            training(lambda: circles(noise=0.4), "classes", lambda: fitted(mlp((2, 24, 24, 2))), sgd(0.1), epochs=25),
        ),
    )
