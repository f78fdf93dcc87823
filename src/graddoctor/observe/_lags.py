"""From norms by time step to a profile over the lag: how much is left, after how many steps a decade is gone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNDERFLOW = -45.0  # log10 under which float32 holds nothing, not even a subnormal number
LIFT = 100  # log2 of a cotangent that has 68 decades before float32 ends; where it overflows, one of size 1 is sent
_SEED = 20240229


@dataclass(frozen=True)
class Profile:
    """A gradient over the lag 0, 1, …, in numbers; see `TemporalReading` for each."""

    values: tuple[float, ...]
    decades: float
    per_step: float
    horizon_1: int | None
    horizon_3: int | None
    cut: int | None
    underflow: int | None


def cotangent(like: Tensor) -> Tensor:
    """Draw a random cotangent, norm 1 for each sample (first axis); for the same shape always the same."""
    generator = torch.Generator("cpu").manual_seed(_SEED)
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64, device="cpu")
    rows = drawn.flatten(1) if drawn.dim() > 1 else drawn.unsqueeze(0)
    unit: Tensor = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return unit.view(like.shape).to(like)


def aligned(norms: Tensor, lengths: Tensor, *, reverse: bool) -> Tensor:
    """Turn (time, samples) into (lag, samples), each sample from its own last step on; `nan` beyond its first."""
    lags = torch.arange(len(norms), device="cpu").unsqueeze(1)
    time = lags.expand(-1, len(lengths)) if reverse else lengths.unsqueeze(0) - 1 - lags
    there = lags < lengths.unsqueeze(0)
    return torch.where(there, norms.gather(0, time.clamp(min=0)), torch.nan)


def over_samples(logs: Tensor, lengths: Tensor) -> list[float]:
    """log10 of the root mean square over the samples that reach each lag, from log10 norms (lag, samples)."""
    there = torch.arange(len(logs), device="cpu").unsqueeze(1) < lengths.unsqueeze(0)
    known = torch.where(there, logs, -torch.inf)
    top = known.amax(1).clamp(min=-1e6)  # all zero: anything finite does, the sum is zero all the same
    mean = (100.0 ** (known - top.unsqueeze(1))).sum(1) / there.sum(1)
    result: list[float] = (top + mean.log10() / 2).tolist()
    return result


def profile(logs: Sequence[float]) -> Profile:
    """Read a profile off log10 norms over the lag; -inf: exactly zero, nan: not finite."""
    cut = next((lag for lag, log in enumerate(logs) if not math.isfinite(log)), None)
    last = len(logs) - 1 if cut is None else cut - 1
    decades = logs[last] - logs[0] if last > 0 else 0.0
    return Profile(
        values=tuple(map(power, logs)),
        decades=decades,
        per_step=decades / last if last > 0 else 0.0,
        horizon_1=_fallen(logs, 1),
        horizon_3=_fallen(logs, 3),
        cut=cut,
        underflow=next((lag for lag, log in enumerate(logs) if log < UNDERFLOW), None),
    )


def _fallen(logs: Sequence[float], decades: float) -> int | None:
    return next((lag for lag, log in enumerate(logs) if log <= logs[0] - decades), None)


def power(log: float) -> float:
    """Ten to the power; infinite where no float holds it."""
    try:
        return math.pow(10.0, log)
    except OverflowError:
        return math.inf


def underflow(lag: Profile, dtype: torch.dtype) -> tuple[str, ...]:
    """Say from which lag on the numeric type of training holds no gradient at all."""
    if lag.underflow is None or dtype is torch.float64:
        return ()
    return (
        f"float32 holds nothing of this gradient from lag {lag.underflow} on: in training it is exactly zero there",
    )
