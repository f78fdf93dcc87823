"""Change an optimizer: its rates, its options, what it holds, its class."""

from __future__ import annotations

import torch
from torch import nn


def scale_rate(
    optimizer: torch.optim.Optimizer, model: nn.Module, factor: float
) -> torch.optim.Optimizer:
    """Multiply the rate of every parameter group; a scheduler that starts from it follows."""
    del model
    for group in optimizer.param_groups:
        rate = group["lr"] * factor
        group["lr"] = float(f"{rate:.12g}") if isinstance(rate, float) else rate  # 0.1 x 0.1 = 0.01
    return optimizer
