"""Schedules of the learning rate, stepped once a batch."""

from __future__ import annotations

import math

import torch


def warm_up(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Raise the rate from almost zero in so many steps, then keep it."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / steps))


def cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Lower the rate to zero along half a cosine in so many steps: all that are run."""

    def share(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
