"""From what was measured to a verdict: each question is answered by an interval, the claim by its questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graddoctor.errors import GraddoctorError
from graddoctor.lab.experiment import Question
from graddoctor.lab.table import Table
from graddoctor.prove.proof import interval
from graddoctor.show.lab import Answer, LabVerdict, Outcome


def answer(question: Question, table: Table) -> Answer:
    """Hold the mean of an effect, and its 95 % interval over the seeds (Student's t), against the bound.

    Raises
    ------
    GraddoctorError
        The question has no bound, or two.
    """
    if (question.above is None) == (question.below is None):
        raise GraddoctorError(f"the question {question.says!r} needs one bound: above=… or below=…")
    effects = np.asarray(question.effect(table), dtype=np.float64)
    mean, low, high = interval(effects)
    bound = question.above if question.above is not None else question.below
    assert bound is not None  # noqa: S101 - one of the two is there
    return Answer(
        says=question.says,
        outcome=_outcome(low, high, bound, above=question.above is not None),
        mean=mean,
        low=low,
        high=high,
        bound=bound,
        above=question.above is not None,
        unit=question.unit,
        control=question.control,
        each=tuple(float(effect) for effect in effects),
    )


def _outcome(low: float, high: float, bound: float, *, above: bool) -> Outcome:
    if not above:
        low, high, bound = -high, -low, -bound
    if low > bound:
        return "holds"
    return "fails" if high < bound else "open"


def judge(answers: Sequence[Answer]) -> LabVerdict:
    """Give the verdict on a claim: all of its questions, none of them, or some.

    A control that does not hold, or a question that stays open, leaves the claim undecided.
    """
    asked = [one.outcome for one in answers if not one.control]
    if any(one.outcome != "holds" for one in answers if one.control) or "open" in asked or not asked:
        return "inconclusive"
    if "fails" not in asked:
        return "reproduced"
    return "only under these conditions" if "holds" in asked else "not reproduced"
