"""Singular values of the recurrent Jacobian at a few places of a trajectory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graddoctor.observe.readings import Spectrum

_SAMPLES = 2


def spectrum(
    transitions: int, samples: Callable[[int], int], jacobian: Callable[[int, int], Tensor], radius: float
) -> Spectrum | None:
    """Decompose Jacobians at the first, quarter, middle and last transition; ``None`` where there is none.

    Parameters
    ----------
    transitions
        How many there are.
    samples
        How many samples make the transition at this place.
    jacobian
        Of the transition at a place, for a sample: (state, state), transposed or not.
    radius
        Spectral radius of the state-to-state matrix, handed on.
    """
    places = sorted({0, transitions // 4, transitions // 2, transitions - 1}) if transitions > 0 else []
    rows = []
    for place in places:
        chosen = sorted({0, samples(place) // 2})[:_SAMPLES]
        maps = torch.stack([jacobian(place, sample) for sample in chosen]).double()
        if not bool(maps.isfinite().all()):
            return None
        rows.append(torch.linalg.svdvals(maps).cpu().log().mean(0))
    if not rows:
        return None
    table = torch.exp(torch.stack(rows))
    largest, middle, smallest = (tuple(table[:, at].tolist()) for at in (0, table.shape[1] // 2, -1))
    return Spectrum(tuple(places), largest, middle, smallest, radius)
