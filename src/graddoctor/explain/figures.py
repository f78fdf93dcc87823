"""The figures of a finding, as sentences: what each number means for the training that it was measured in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from graddoctor.show.words import figure, number, percent, signed

_MILLION, _MANY, _SMALL = 1e6, 1e15, 10
NOTHING = -45.0
"""Decades below which float32 has no number."""

SAME = 0.3
"""Decades within which sizes count as the same: a factor of two."""

_NAMES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def times(decades: float) -> str:
    """How often a factor of so many decades is: ``"8.3"``, ``"12,000"``, ``"about 160 million"``."""
    if math.isnan(decades):
        return "an unknown number of"
    many = float(f"{10 ** min(abs(decades), 300):.2g}")
    if many < _SMALL:
        return f"{many:.2g}"
    if many < _MILLION:
        return f"{many:,.0f}"
    if many >= _MANY:
        return f"10^{abs(decades):.0f}"
    size, name = next((size, name) for size, name in _NAMES if many >= size)
    return f"about {many / size:.0f} {name}" if many >= 10 * size else f"about {many / size:.2g} {name}"


def sized(decades: float) -> str:
    """What so many decades make of a size: ``"as large"``, ``"12,000 times smaller"``."""
    return "as large" if abs(decades) < SAME else f"{times(decades)} times {'smaller' if decades < 0 else 'larger'}"


def sentences(figures: Mapping[str, float]) -> Iterator[str]:
    """Tell every figure that has a meaning of its own and is a number."""
    leaps = figures.get("gradient_norm_jump_decades", 0.0) > SAME
    for name, value in figures.items():
        if leaps and name == "step":
            continue  # of the look, not of the leap
        if name in TOLD and math.isfinite(value) and (said := TOLD[name](value)):
            yield said


def _step(value: float) -> str:
    return "It was there before the first step." if value == 0 else f"It was there at step {value:,.0f}."


def _signal(value: float) -> str:
    if abs(value) < 0.5:
        return ""
    return f"What tells one sample from another is {sized(value)} at the end of the network than at its input."


def _over_time(value: float) -> str:
    if value <= NOTHING:
        return "Over a whole sequence nothing of the gradient is left."
    return f"Over a whole sequence the gradient becomes {sized(value)}." if abs(value) >= SAME else ""


def _less(value: float) -> str:
    return percent(value) if value >= 0.01 else "less than 1 %"


TOLD: dict[str, Callable[[float], str]] = {
    "decades_lost": lambda v: (
        f"The gradient is {times(v)} times smaller at the first layer than at the last hidden one."
    ),
    "decades_lost_per_layer": lambda v: (
        f"On average a layer hands on {_less(10**-v)} of the gradient that it gets." if v > 0 else ""
    ),
    "decades_gained": lambda v: f"Over the depth the gradient, or the signal, becomes {sized(v)}." if v > SAME else "",
    "gradient_norm_jump_decades": lambda v: (
        f"At its worst the whole gradient was {times(v)} times as large as is usual in this run." if v > SAME else ""
    ),
    "first_nonfinite_step": lambda v: f"From step {v:,.0f} on there are numbers that are infinite or NaN.",
    "signal_decades": _signal,
    "signal_change_decades": lambda v: (
        f"Over the depth the signal becomes {times(v)} times as large or as small." if v > 1 else ""
    ),
    "step": _step,
    "layers": lambda v: f"It concerns {number(int(v), 'layer')}.",
    "dead_share": lambda v: f"In the worst layer {percent(v)} of the units are dead.",
    "saturated_share": lambda v: f"In the worst layer {percent(v)} of the values lie where the slope is almost zero.",
    "equal_blocks": lambda v: f"There are {v:.0f} equal blocks in a row.",
    "progress": lambda v: (
        f"Training removed {percent(v)} of the loss of a constant answer."
        if v >= 0
        else "Training ended worse than a constant answer."
    ),
    "first_similarity": lambda v: f"At the first block, two samples have a cosine of {v:.2f}; 1 would be the same.",
    "last_similarity": lambda v: f"At the last block, two samples have a cosine of {v:.2f}.",
    "shared_gradient": lambda v: (
        f"Inputs that are close to one another share {percent(max(v, 0.0))} of their gradient."
    ),
    "without_gradient": lambda v: f"Without a gradient all along: {number(int(v), 'parameter')}." if v else "",
    "not_in_optimizer": lambda v: f"Not given to the optimizer: {number(int(v), 'parameter')}." if v else "",
    "fall_share": lambda v: (
        f"From the first epoch to the last the loss {'fell' if v >= 0 else 'rose'} by {percent(abs(v))}."
    ),
    "last_loss": lambda v: f"It ended at {figure(v)}.",
    "late_spread": lambda v: f"Late in the run, the loss of single steps spreads by {percent(v)} of its mean.",
    "rising_epochs_share": lambda v: f"{percent(v)} of the later epochs ended higher than the one before.",
    "zero_gradient_share": lambda v: (
        f"{percent(v)} of all entries of the gradient are exactly zero." if v > 0.1 else ""
    ),
    "unchanged_share": lambda v: (
        f"Up to {percent(v)} of a parameter's entries stay as they are in a step." if v else ""
    ),
    "loss_over_constant": lambda v: f"The first loss is {v:.2g} times that of a constant answer." if v > 2 else "",
    "identical_layers": lambda v: f"Units begin all alike in {number(int(v), 'layer')}." if v else "",
    "decades_over_time": _over_time,
    "decades_per_time_step": lambda v: f"One time step multiplies it by {10 ** min(v, 300):.2g}." if v else "",
    "time_steps": lambda v: f"The sequence has {number(int(v), 'step')}.",
    "horizon_3_decades_steps": lambda v: f"A thousandth of it is left {number(int(v), 'step')} back.",
    "absmax": lambda v: f"The largest entry has a magnitude of {figure(v)}.",
    "std": lambda v: f"The standard deviation is {figure(v)}; 1 would be ordinary.",
    "mean": lambda v: f"The mean is {signed(v)}; 0 would be ordinary.",
    "gain": lambda v: (
        f"With the cause undone and all else equal, the same training removed {100 * v:.0f} points more of the loss "
        "of a constant answer, of 100 that there are."
    ),
}
"""``(value) -> `` a sentence, by the name that rules give a figure; empty where there is nothing to tell."""
