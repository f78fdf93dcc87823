"""Curves that experiments draw, and what is read off them: the loss from step to step, the gradient layer by layer."""

from __future__ import annotations

import itertools
import math

import numpy as np

import graddoctor as gd
from graddoctor.lab.digits import CLASSES
from graddoctor.lab.table import Numbers

GUESSING = math.log(CLASSES)
"""The loss of a network that says nothing."""


def losses(outcome: gd.Outcome, guess: float = GUESSING) -> Numbers:
    """Every step's loss, those that a run did not get to and those that are not finite at `guess`."""
    given = np.full(outcome.total_steps, guess)
    given[: outcome.steps] = np.nan_to_num(outcome.losses, nan=guess, posinf=guess)
    return given


def smooth(outcome: gd.Outcome, guess: float = GUESSING) -> Numbers:
    """Mean loss over an epoch that ends at each step, from the end of the first epoch on."""
    epoch = outcome.steps_per_epoch
    return np.convolve(losses(outcome, guess), np.full(epoch, 1 / epoch), mode="valid")


def steps_to(outcome: gd.Outcome, loss: float = GUESSING / 2) -> int:
    """Steps until the mean loss of an epoch is under `loss`; all steps of the recipe where it never is."""
    below = np.flatnonzero(smooth(outcome) < loss)
    return int(below[0]) + outcome.steps_per_epoch if below.size else outcome.total_steps


def last(outcome: gd.Outcome, guess: float = GUESSING) -> float:
    """Mean loss over the last tenth of a run; at most what guessing costs, also where the run diverged."""
    tail = outcome.losses[-max(len(outcome.losses) // 10, 1) :]
    mean = float(tail.mean())
    return min(mean, guess) if math.isfinite(mean) else guess


def epochs(outcome: gd.Outcome, most: float = 1.2 * GUESSING) -> list[float]:
    """Mean loss of every epoch, at most so much: what is worse than guessing must not stretch the picture."""
    means = losses(outcome).reshape(-1, outcome.steps_per_epoch).mean(axis=1)
    return [float(mean) for mean in np.minimum(means, most)]


def course(budget: gd.Budget) -> list[float]:
    """Decades that the gradient has lost at each layer, counted from the last one; early layers first."""
    back = itertools.accumulate((row.decades for row in reversed(budget.rows)), initial=0.0)
    return list(back)[::-1]
