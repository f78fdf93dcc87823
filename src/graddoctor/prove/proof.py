"""A proof: paired outcomes of the treated and the given recipe on fresh seeds, an interval, and a plain verdict.

The test is the exact sign-flip test on the paired differences: where the two sides do not differ, every difference is
as likely to have the other sign. It assumes nothing of how outcomes are distributed. Its error is shared out so that a
difference of either kind is claimed in at most 5 % of all proofs of nothing: a 32nd goes to "better", which is what a
cure claims and what five pairs can reach if all of them gain; the rest goes to "worse", which takes six.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from graddoctor.prove.task import Result

ERROR = 0.05
"""A difference, better or worse, is claimed in at most this share of all proofs where there is none."""

BETTER = 1 / 32
"""Share of it that goes to "better"."""

WORSE = ERROR - BETTER
"""Share of it that goes to "worse"."""

FEWEST = 5
"""Fewer distinct pairs show nothing, whatever they say."""

_TIE = 1e-6  # outcomes that agree to so many parts are the same
_EXACT = 20  # up to so many pairs every assignment of signs is looked at
_DRAWS = 1 << 16  # of so many random ones beyond

Measure = Literal["metric", "progress"]
Verdict = Literal["better", "no difference shown", "worse"]


@dataclass(frozen=True)
class Pair:
    """The recipe as given and as treated, under one seed. ``difference`` is after minus before; above 0 is better."""

    seed: int
    before: Result
    after: Result
    difference: float


@dataclass(frozen=True)
class Proof:
    """What fresh seeds say.

    Attributes
    ----------
    pairs
        One a seed, in their order.
    measure
        What was compared: the recipe's metric, or the progress of its training loss.
    verdict
        Better or worse where the pairs say so beyond the stated error (`BETTER`, `WORSE`).
    mean, low, high
        Mean difference and its paired 95 % interval (Student's t over distinct pairs); without an end where one pair
        is all there is, ``nan`` where there is none.
    error
        Chance of such a result where there is no difference: exact sign-flip test, one-sided, in the direction of the
        mean.
    distinct
        Number of pairs that really differ: seeds that drew the same count once.
    cost
        Seconds per step, after over before: the median over pairs.
    parameters_before, parameters_after
        Trainable numbers.
    planned
        Pairs that were meant to be run.
    """

    pairs: tuple[Pair, ...]
    measure: Measure
    verdict: Verdict
    mean: float
    low: float
    high: float
    error: float
    distinct: int
    cost: float = math.nan
    parameters_before: int = 0
    parameters_after: int = 0
    planned: int = FEWEST

    @property
    def sentence(self) -> str:
        """What the pairs say, and why that may prove nothing."""
        if not self.pairs:
            return "No pair was run."
        said = [self._counted()]
        if self.distinct < len(self.pairs):
            same = len(self.pairs) - self.distinct
            said.append(f"{same} drew the same as another and {'counts' if same == 1 else 'count'} once with it.")
        if self.verdict == "no difference shown" and self.distinct < FEWEST:
            said.append(f"Fewer than {FEWEST} distinct pairs prove nothing.")
        elif self.verdict == "no difference shown" and self.mean < 0 and self.distinct == FEWEST:
            said.append(f"{FEWEST} distinct pairs cannot show a loss: that takes {FEWEST + 1}.")
        said += [line for side in ("before", "after") if (line := self._lost(side))]
        return " ".join(said)

    def _counted(self) -> str:
        """How many gained and how many lost."""
        total = len(self.pairs)
        gained, lost = (sum(sign * pair.difference > 0 for pair in self.pairs) for sign in (1, -1))
        if total > 1 and total in {gained, lost}:
            return f"All {total} pairs {'gained' if gained else 'lost'}."
        counts = ((gained, "gained"), (lost, "lost"), (total - gained - lost, "did not differ"))
        return f"Of {total} pairs, {', '.join(f'{count} {what}' for count, what in counts if count)}."

    def _lost(self, side: str) -> str:
        count = sum(not _usable(getattr(pair, side), self.measure) for pair in self.pairs)
        who = {"before": "as given", "after": "as treated"}[side]
        return f"{count} of {len(self.pairs)} runs {who} gave no usable network." if count else ""


def prove(
    before: Sequence[Result | None], after: Sequence[Result | None], seeds: Sequence[int], planned: int = FEWEST
) -> Proof:
    """Compare two recipes that were trained on the same fresh seeds.

    The measure is the recipe's metric where every run that gave a network has one, a number at least once; else
    progress. A run that gave none
    (it diverged, raised or hung, or its metric is not finite) is the worst outcome: progress 0; its own metric or the
    lowest of the others, whichever is lower; and where it has no metric, the lowest of all less its absolute value,
    which is 0 for accuracies and the like. Two such runs do not differ, and neither do two whose losses are the same
    bit by bit.

    Parameters
    ----------
    before, after
        One result a seed, in the same order; a pair of which one is missing (``None``) is left out.
    seeds
        Numbers of the fresh draws.
    planned
        Pairs that were meant to be run. To decide on it beforehand is what makes the error hold.
    """
    rows = [(s, b, a) for s, b, a in zip(seeds, before, after, strict=True) if b is not None and a is not None]
    measure = _measure([result for _, b, a in rows for result in (b, a)])
    worth = _Worth([result for _, b, a in rows for result in (b, a)], measure)
    pairs = tuple(Pair(seed, b, a, worth.difference(b, a)) for seed, b, a in rows)
    differences = np.array([pair.difference for pair in _distinct(pairs)])
    gain, loss = sign_flip(differences), sign_flip(-differences)
    mean, low, high = interval(differences)
    return Proof(
        pairs=pairs,
        measure=measure,
        verdict=_verdict(gain, loss, len(differences)),
        mean=mean,
        low=low,
        high=high,
        error=min(gain, loss),
        distinct=len(differences),
        cost=_cost(pairs),
        parameters_before=next((b.parameters for _, b, _ in rows if b.parameters), 0),
        parameters_after=next((a.parameters for _, _, a in rows if a.parameters), 0),
        planned=planned,
    )


def sign_flip(differences: NDArray[np.float64]) -> float:
    """Chance that differences with random signs have a mean as high as the one that was seen.

    Exact up to 20 differences, beyond that over 65 536 random assignments of signs, always the same.
    Source: Fisher 1935 (The Design of Experiments, section 21).
    """
    sizes = np.sort(np.abs(differences))
    total = float(np.sum(np.sort(differences)))
    if len(sizes) <= _EXACT:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (_DRAWS - 1, len(sizes)))
        sums = np.append(signs @ sizes, sizes.sum())
    return float(np.mean(sums >= total - 1e-9 * sizes.sum()))  # sums that are equal on paper differ by rounding


def interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t."""
    if not len(differences):
        return math.nan, math.nan, math.nan
    mean = float(differences.mean())
    if len(differences) == 1:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences)))
    return mean, mean - half, mean + half


class _Worth:
    """What a result is worth among others."""

    def __init__(self, results: Sequence[Result], measure: Measure) -> None:
        self.measure = measure
        self.lowest = min((self._raw(r) for r in results if _usable(r, measure)), default=math.inf)
        finite = [self._raw(r) for r in results if math.isfinite(self._raw(r))]
        self.floor = min(finite) - abs(min(finite)) if finite else 0.0

    def difference(self, before: Result, after: Result) -> float:
        """After minus before; 0 for runs that are the same, or both lost, or alike to a millionth."""
        if not _usable(before, self.measure) and not _usable(after, self.measure):
            return 0.0
        if before.digest and before.digest == after.digest and before.failed == after.failed:
            return 0.0
        one, other = self._of(before), self._of(after)
        return 0.0 if abs(other - one) <= _TIE * max(abs(one), abs(other)) else other - one

    def _of(self, result: Result) -> float:
        if _usable(result, self.measure):
            return self._raw(result)
        if self.measure == "progress":
            return 0.0
        raw = self._raw(result)
        return min(raw, self.lowest) if math.isfinite(raw) else self.floor

    def _raw(self, result: Result) -> float:
        if self.measure == "progress":
            return result.progress
        return math.nan if result.metric is None else result.metric


def _measure(results: Sequence[Result]) -> Measure:
    metrics = [result.metric for result in results if not result.lost]
    known = [metric for metric in metrics if metric is not None and math.isfinite(metric)]
    return "metric" if known and None not in metrics else "progress"


def _usable(result: Result, measure: Measure) -> bool:
    """Whether a run gave a network that can be compared."""
    if measure == "progress":
        return not result.lost
    return not result.lost and result.metric is not None and math.isfinite(result.metric)


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without those that drew the same as an earlier one, on both sides."""
    return list({(pair.before.digest, pair.after.digest): pair for pair in reversed(pairs)}.values())[::-1]


def _verdict(gain: float, loss: float, count: int) -> Verdict:
    if count >= FEWEST and gain <= BETTER:
        return "better"
    return "worse" if count >= FEWEST and loss <= WORSE else "no difference shown"


def _cost(pairs: Sequence[Pair]) -> float:
    """Median ratio of the seconds of a step; ``nan`` where no pair ran a step on both sides."""
    runs = [(p.before, p.after) for p in pairs if p.before.steps and p.after.steps and p.before.seconds > 0]
    return median((a.seconds / a.steps) / (b.seconds / b.steps) for b, a in runs) if runs else math.nan
