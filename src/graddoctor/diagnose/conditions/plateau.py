"""PLATEAU and OSCILLATION: what the loss curve itself shows."""

from __future__ import annotations

import numpy as np

from graddoctor.diagnose.observation import Numbers, Observation
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.terms import Condition

FALL = 0.05
SPREAD = 0.3
RISING = 0.3
NOTICED = 0.02
"""An epoch counts as rising when its loss is higher than the one before by a fiftieth."""
_FEWEST = 12


def plateau(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect a loss that falls by less than a twentieth over the whole run."""
    epochs = seen.epoch_losses
    if len(epochs) < 2 or not np.isfinite(epochs).all():  # noqa: PLR2004 - a fall needs a first and a last
        return ()
    fall = float((epochs[0] - epochs[-1]) / max(abs(epochs[0]), 1e-300))
    if fall >= FALL:
        return ()
    sentence = f"The loss falls by {max(fall, 0.0):.1%} over the whole run."
    return (Suspicion(Condition.PLATEAU, (), {"fall_share": fall, "last_loss": float(epochs[-1])}, sentence=sentence),)


def oscillation(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect step losses that swing by a third of their mean late in the run, or epochs that rise again and again.

    Swings are told from a steady fall: they are what a straight line through the last third of the losses leaves. Steps
    that are too long for the valley swing wider and wider until the loss is no longer a number: it counts until then.
    """
    losses = seen.outcome.losses[: seen.outcome.first_nonfinite]
    late = losses[-(len(losses) // 3) :]
    if len(losses) < _FEWEST:
        return ()
    spread = float(_around_line(late).std() / max(abs(late.mean()), 1e-300))
    epochs = seen.epoch_losses
    epochs = epochs[np.isfinite(epochs)][-max(3, len(epochs) // 2) :]
    rises = np.diff(epochs) > NOTICED * np.abs(epochs[:-1])
    rising = float(rises.mean()) if len(rises) else 0.0
    if spread <= SPREAD and rising < RISING:
        return ()
    numbers = {"late_spread": spread, "rising_epochs_share": rising}
    sentence = f"Late in the run the loss of a step spreads by {spread:.0%} of its mean"
    sentence += f", and {rising:.0%} of the epochs end higher than the one before." if rising >= RISING else "."
    return (Suspicion(Condition.OSCILLATION, (), numbers, sentence=sentence),)


def _around_line(values: Numbers) -> Numbers:
    """What the straight line of least squares leaves."""
    time = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(time @ values / (time @ time))
    residual: Numbers = values - values.mean() - slope * time
    return residual
