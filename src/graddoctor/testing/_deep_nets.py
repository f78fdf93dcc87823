"""Very deep networks, plain or with shortcuts: the same layers, in a row or added to a stream."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from graddoctor.testing._nets import Attention, Fn, mlp

Build = Callable[[], nn.Module]


class Deep(nn.Module):
    """``stem``, many ``layers`` of one shape in a row, ``out``; with ``skip``, each adds to what it was given."""

    def __init__(self, stem: nn.Module, layer: Build, count: int, out: nn.Module, *, skip: bool = False) -> None:
        super().__init__()
        self.stem, self.layers, self.out = stem, nn.ModuleList(layer() for _ in range(count)), out
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Stem, layers, head."""
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x) if self.skip else layer(x)
        logits: torch.Tensor = self.out(x)
        return logits


def dense(width: int, act: Build = nn.ReLU, norm: Callable[[int], nn.Module] = nn.Identity) -> Build:
    """Return a builder of linear, norm, activation."""
    return lambda: nn.Sequential(nn.Linear(width, width), norm(width), act())


def conv(channels: int, act: Build = nn.ReLU, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> Build:
    """Return a builder of a 3x3 convolution, norm, activation."""
    return lambda: nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), norm(channels), act())


def image_stem(channels: int, *, size: int = 4) -> nn.Module:
    """Images of 8x8 from rows of 64, brought to ``size`` by one convolution."""
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, channels, 3, stride=8 // size, padding=1), nn.ReLU())


def image_head(channels: int, *, size: int = 4) -> nn.Module:
    """Classes from maps."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 10))


def two_layers(width: int) -> Build:
    """Return a builder of a pre-norm branch of two layers."""
    return lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def pyramid(count: int, channels: int = 8) -> nn.Module:
    """Three stages of so many convolutions with BatchNorm, halved in size between them."""
    stages = [stage for _ in range(3) for stage in (nn.Sequential(*(conv(channels)() for _ in range(count))), _half())]
    return nn.Sequential(image_stem(channels, size=8), *stages, nn.Flatten(), nn.Linear(channels, 10))


def _half() -> nn.Module:
    return nn.AvgPool2d(2)


class Embedded(nn.Module):
    """Embeddings of tokens and places, added."""

    def __init__(self, words: int = 9, length: int = 10, width: int = 32) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, time, width)`` for integers ``(batch, time)``."""
        embedded: torch.Tensor = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        return embedded


def attending(width: int) -> Build:
    """Return a builder of norm, attention, norm, two layers, in a row."""
    return lambda: nn.Sequential(
        nn.LayerNorm(width),
        Attention(width, 4),
        nn.LayerNorm(width),
        mlp((width, 2 * width, width), nn.GELU),
    )


def pooled_head(width: int, classes: int = 8) -> nn.Module:
    """Classes from the mean over time."""
    return nn.Sequential(nn.LayerNorm(width), Fn(lambda x: x.mean(1)), nn.Linear(width, classes))


class Highway(nn.Module):
    """``gate * act(fc(x)) + (1 - gate) * x`` (Srivastava, Greff and Schmidhuber, 2015)."""

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.fc, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the transform with what came in."""
        gate = torch.sigmoid(self.gate(x))
        mixed: torch.Tensor = gate * torch.relu(self.fc(x)) + (1 - gate) * x
        return mixed
