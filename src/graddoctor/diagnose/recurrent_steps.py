"""What is put to experiments where a state is carried through time: the gates, the cell, the recurrent weights.

A long memory begins to show late, and hardly ever at the rate, and without the clip, that a recipe happens to have. So
each change is tried under ordinary trainings of recurrent networks, at full length, and is credited only with what it
adds to such a training alone. Where the gradient explodes from the first step on it is credited with all: that an
adaptive step and a clip live with an explosion is no evidence that they were missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from graddoctor.diagnose.conditions.saturation import SHARE
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.step import Step
from graddoctor.diagnose.suspicion import Suspicion
from graddoctor.observe.readings import Spectrum, TemporalReading
from graddoctor.remedies.activation import exchanged
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.functions import HARSH
from graddoctor.remedies.gating import gated_cells, gates_opened
from graddoctor.remedies.recurrent_start import identity, is_recurrent, recurrence_restarted
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.trainings import ordinary_trainings
from graddoctor.terms import Condition

STATES = frozenset({Condition.RECURRENT_VANISHING, Condition.RECURRENT_EXPLODING})

_CELLS = 3  # LSTMs with either kind of open gates, and a GRU
_RADII = (0.25, 1.5)  # around 0.58, as torch draws recurrent weights, and 1, as orthogonal or identity ones have it


def state_suspicions(suspicions: Sequence[Suspicion]) -> tuple[Suspicion, ...]:
    """Return the suspicions that are about a state that is carried through time."""
    return tuple(s for s in suspicions if s.condition in STATES)


def starts_wild(suspicions: Sequence[Suspicion]) -> bool:
    """Whether a gradient explodes through time from the first step on."""
    return any(s.condition is Condition.RECURRENT_EXPLODING and s.at_start for s in suspicions)


def recurrent_steps(seen: Observation, suspicions: Sequence[Suspicion]) -> Iterator[Step | None]:
    """Yield what may be wrong with a recurrence in the order in which it is tried; ``None`` is the learning rate.

    The start comes first where it is odd; otherwise gates, harsh activations and cells do. The rate is before all of
    them, unless the gradient explodes from the first step on.
    """
    facts = Facts(seen.recipe)
    wild = starts_wild(suspicions)
    starts = [identity(facts), recurrence_restarted(facts)]
    cells = [gates_opened(facts), _softened(facts), *gated_cells(facts)[:_CELLS]]
    trainers = ordinary_trainings(facts)
    if not wild:
        yield None
    for remedy in (*starts, *cells) if wild or _starts_odd(seen) else (*cells, *starts):
        if remedy is not None:
            yield Step(remedy, trainers=trainers)
    if wild:
        yield None


def _starts_odd(seen: Observation) -> bool:
    """Whether states are pinned before the first step, or recurrent weights far from the radius of any usual start."""
    return any(_pinned(r) or not _usual(r.spectrum) for r in seen.start.temporal if r.kind != "attention")


def _pinned(reading: TemporalReading) -> bool:
    return bool(reading.saturation) and sum(share >= SHARE for share in reading.saturation) > reading.steps / 2


def _usual(spectrum: Spectrum | None) -> bool:
    return spectrum is None or math.isnan(spectrum.radius) or _RADII[0] <= spectrum.radius <= _RADII[1]


def _softened(facts: Facts) -> Remedy | None:
    """A tanh in place of harsh activations in a loop that is written by hand, and recurrent weights that suit it."""
    survey = facts.survey
    harsh = frozenset(survey.hidden) & HARSH if survey else frozenset()
    if survey is None or not harsh or all(carrier.loop is None for carrier in facts.carriers):
        return None
    swap = exchanged(harsh, survey, torch.tanh)
    swap = replace(swap, name=f"tanh in place of {', '.join(sorted(harsh))}", modules=is_recurrent(facts))
    start = recurrence_restarted(facts.after(swap))
    return swap.then(start) if start else swap
