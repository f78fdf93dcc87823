"""The networks of the zoo: small, plain, each part with a name that a patient can point to."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

Activation = Callable[[], nn.Module]


class Fn(nn.Module):
    """A module around a plain function of one tensor."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        return self.function(x)


def mlp(
    sizes: Sequence[int],
    act: Activation = nn.ReLU,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    drop: float = 0.0,
    bias: bool = True,
) -> nn.Sequential:
    """Build a chain ``fc1, [norm1], act1, [drop1], fc2, …, out`` over the given widths."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]), start=1):
        parts[f"fc{index}"] = nn.Linear(fan_in, fan_out, bias=bias)
        if norm is not None:
            parts[f"norm{index}"] = norm(fan_out)
        parts[f"act{index}"] = act()
        if drop:
            parts[f"drop{index}"] = nn.Dropout(drop)
    parts["out"] = nn.Linear(sizes[-2], sizes[-1], bias=bias)
    return nn.Sequential(parts)


def cnn(
    act: Activation = nn.ReLU,
    *,
    convs: int = 3,
    channels: int = 16,
    norm: Callable[[int], nn.Module] | None = None,
    classes: int = 10,
) -> nn.Sequential:
    """Build a plain CNN for rows of 64 pixels: ``image, conv1, [norm1], act1, pool1, conv2, …, flat, out``."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(image=nn.Unflatten(1, (1, 8, 8)))
    for index in range(1, convs + 1):
        parts[f"conv{index}"] = nn.Conv2d(1 if index == 1 else channels, channels, 3, padding=1)
        if norm is not None:
            parts[f"norm{index}"] = norm(channels)
        parts[f"act{index}"] = act()
        if index == 1:
            parts["pool1"] = nn.AvgPool2d(2)
    parts["flat"] = nn.Flatten()
    parts["out"] = nn.Linear(channels * 16, classes)
    return nn.Sequential(parts)


def fitted(model: nn.Module, nonlinearity: str = "relu", gain: float = 1.0) -> nn.Module:
    """Give every weight matrix the variance that keeps a signal's length under this activation; biases zero."""
    second_moment = {"relu": 0.5, "tanh": 1.0, "linear": 1.0, "gelu": 0.4252, "silu": 0.3558, "selu": 1.0}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=gain / math.sqrt(fan_in * second_moment[nonlinearity]))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def named(model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """Return the modules of one kind by name, in the order in which they were registered."""
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


class Block(nn.Module):
    """``x + scale * fc2(act(fc1(norm(x))))``."""

    def __init__(self, width: int, act: Activation, *, norm: bool, scale: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.fc1, self.act, self.fc2 = nn.Linear(width, width), act(), nn.Linear(width, width)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the branch to the stream."""
        branch: torch.Tensor = self.fc2(self.act(self.fc1(self.norm(x))))
        return x + self.scale * branch


class ResidualMLP(nn.Module):
    """A residual stream between a stem and a head, pre-norm or without norm."""

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        blocks: int,
        act: Activation = nn.ReLU,
        norm: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(Block(width, act, norm=norm, scale=scale) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.out = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Stem, blocks, norm, head."""
        logits: torch.Tensor = self.out(self.norm(self.blocks(self.stem(x))))
        return logits


class ResidualCNN(nn.Module):
    """Two-convolution blocks with BatchNorm on 4x4 maps of 64-pixel rows."""

    def __init__(self, channels: int = 12, blocks: int = 2, *, norm: bool = True) -> None:
        super().__init__()

        def normed() -> nn.Module:
            return nn.BatchNorm2d(channels) if norm else nn.Identity()

        def block() -> nn.Sequential:
            first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
            return nn.Sequential(first, normed(), nn.ReLU(), second, normed())

        self.stem = nn.Conv2d(1, channels, 3, padding=1, stride=2)
        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.out = nn.Linear(channels * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images from rows, then post-activation residual blocks."""
        x = functional.relu(self.stem(x.reshape(-1, 1, 8, 8)))
        for block in self.blocks:
            x = functional.relu(x + block(x))
        logits: torch.Tensor = self.out(x.flatten(1))
        return logits


class Attention(nn.Module):
    """Self-attention with its four projections as separate, named layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the positions: ``(batch, time, width)`` in and out."""
        batch, time, width = x.shape

        def split(layer: nn.Linear) -> torch.Tensor:
            projected: torch.Tensor = layer(x)
            return projected.reshape(batch, time, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = split(self.query), split(self.key), split(self.value)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores, dim=-1) @ value
        out: torch.Tensor = self.project(mixed.transpose(1, 2).reshape(batch, time, width))
        return out


class TransformerBlock(nn.Module):
    """Attention and a two-layer MLP, with the norm before (``pre``) or after (``post``) each addition, or none."""

    def __init__(self, width: int, heads: int, order: str) -> None:
        super().__init__()
        self.order = order
        self.attention = Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm1, self.norm2 = (nn.Identity() if order == "none" else nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two residual additions."""
        if self.order == "post":
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.feed(x))  # type: ignore[no-any-return]
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Token and place embeddings, blocks, a mean over the places, a head."""

    def __init__(
        self,
        words: int = 9,
        length: int = 10,
        width: int = 32,
        classes: int = 8,
        *,
        blocks: int = 2,
        order: str = "pre",
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, 4, order) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width) if order == "pre" else nn.Identity()
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits from integer sequences ``(batch, time)``."""
        places: torch.Tensor = self.places(torch.arange(x.shape[1], device=x.device))
        logits: torch.Tensor = self.out(self.norm(self.blocks(self.tokens(x) + places)).mean(1))
        return logits


class TwoTowers(nn.Module):
    """One tower for each of two inputs; the head reads both, side by side."""

    def __init__(self, inputs: int = 8, width: int = 32, act: Activation = nn.ReLU) -> None:
        super().__init__()
        self.left, self.right = (mlp((inputs, width, width), act) for _ in range(2))
        self.head = mlp((2 * width, width, width, 2), act)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Both towers, joined, through the head."""
        logits: torch.Tensor = self.head(torch.cat([self.left(left), self.right(right)], dim=1))
        return logits


class Functional(nn.Module):
    """No submodules: bare parameters and functions, as research code often has them."""

    def __init__(
        self, sizes: Sequence[int], function: Callable[[torch.Tensor], torch.Tensor], std: Callable[[int], float]
    ) -> None:
        super().__init__()
        spans = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.randn(b, a) * std(a) for a, b in spans)
        self.biases = nn.ParameterList(torch.zeros(b) for _, b in spans)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Linear maps with the function between them."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            x = self.function(functional.linear(x, weight, bias))
        return functional.linear(x, *layers[-1])


class Recurrent(nn.Module):
    """Embedding, an LSTM, and a head on the last state."""

    def __init__(self, words: int = 9, width: int = 32, classes: int = 8) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, 16)
        self.lstm = nn.LSTM(16, width, batch_first=True)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits from integer sequences."""
        states, _ = self.lstm(self.tokens(x))
        logits: torch.Tensor = self.out(states[:, -1])
        return logits
