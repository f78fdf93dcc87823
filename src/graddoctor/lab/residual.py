"""Residual networks of dense layers: blocks that add to what they are given."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from graddoctor.lab.digits import CLASSES, PIXELS


class Block(nn.Module):
    """``x + scale * branch(x)``."""

    def __init__(self, branch: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branch makes of it."""
        out: Tensor = x + self.scale * self.branch(x)
        return out


def residual(blocks: int, branch: Callable[[], nn.Module], *, width: int = 64, scale: float = 1.0) -> nn.Sequential:
    """A layer of weights, so many blocks of `width` numbers, and a layer of weights."""
    body = [Block(branch(), scale) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(PIXELS, width), *body, nn.Linear(width, CLASSES))
