"""The search: candidates from the ranked causes, a race, the rate tuned on both sides, and the smallest wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from graddoctor.prove.laboratory import Laboratory
from graddoctor.remedies.pharmacy import PHARMACY
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.treat.candidates import LARGEST, Candidates
from graddoctor.treat.race import Entry, Race, Rung, score_of

CLOSED = 0.95
"""A progress from which on nothing more is looked for."""

MARGIN = 0.05
"""A smaller change wins that comes as near to the best as this share of what the best gains."""

_SHARES = (0.25, 0.5, 1.0)
_CHECKED_ON = 2  # further seeds that the finalists are tried on before one is chosen
_FINALISTS = 3
_FINE = (1 / 3, 3.0)

_GENERAL = (
    Cause.INPUT_SCALE,
    Cause.TARGET_SCALE,
    Cause.INITIALIZATION,
    Cause.ACTIVATION,
    Cause.OPTIMIZER,
    Cause.NORMALIZATION,
    Cause.DEPTH,
    Cause.CLIPPING,
)
"""What is tried where the diagnosis names no cause, or where undoing it leaves much to gain."""

_EACH = 2  # so many remedies of each of these


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes
    ----------
    remedy
        The winner; ``None``: nothing beat the recipe as given.
    rungs
        Every rung of the race, in order.
    plain
        The recipe as given, at full length; ``tuned`` the best that its rate alone could do.
    failed
        Prescriptions and trials that were lost, and why.
    """

    remedy: Remedy | None
    rungs: tuple[Rung, ...]
    plain: Entry | None
    tuned: Entry | None
    failed: tuple[tuple[str, str], ...] = ()


@dataclass
class Search:
    """One search, stage by stage.

    Parameters
    ----------
    aims
        Causes, the most to blame first; empty where the diagnosis names none.
    """

    laboratory: Laboratory
    candidates: Candidates
    race: Race
    aims: Sequence[Cause]
    known: dict[str, Entry] = field(default_factory=dict)

    def run(self) -> Found:
        """Run all stages; what the deadline leaves out is not looked at."""
        base = self._base()
        first = self._first()
        self._remember(self.race.halve(first, _SHARES, "first choice"))
        self._refine()
        if not self._done():
            more = self._more()
            if more:
                self._remember(self.race.halve(more, _SHARES[1:], "in combination"))
                self._refine()
        return self.found(self._choose(base), base)

    def _base(self) -> Entry | None:
        """Train the recipe as given, which all is compared with."""
        self._remember(self.race.rung([None], 1.0, 1, "as given"))
        entries = self.race.rungs[-1].entries
        return entries[0] if entries else None

    def found(self, remedy: Remedy | None = None, base: Entry | None = None) -> Found:
        """Put together what is known so far."""
        failed = (*self.candidates.failed, *self._lost())
        return Found(remedy, tuple(self.race.rungs), base, self._tuned(), failed)

    def _first(self) -> list[Remedy]:
        """What the blamed causes ask for, and the recipe's own rate tuned."""
        aimed = [one for cause in self.aims for one in self.candidates.of(cause)]
        if not aimed and Cause.LEARNING_RATE not in self.aims:
            aimed = self._general(None)
        return self.candidates.tuned([None, *aimed])

    def _general(self, after: Remedy | None) -> list[Remedy]:
        seen = {cause for part in after.each for cause in part.causes} if after else set()
        causes = [cause for cause in _GENERAL if cause not in seen and cause in PHARMACY]
        return [one for cause in causes for one in self.candidates.of(cause, after)[:_EACH] if len(one.each) <= LARGEST]

    def _refine(self) -> None:
        """Try the best at a third and three times its rate."""
        best = self._best()
        if best is None or best.remedy is None or self._done():
            return
        near = [self.candidates.at(best.remedy, factor) for factor in _FINE]
        near = [one for one in near if len(one.each) <= LARGEST and self.candidates.allowed(one)]
        if near:
            self._remember(self.race.rung(near, 1.0, len(near), "finer rates"))

    def _more(self) -> list[Remedy]:
        """The best so far, with one more remedy of another cause."""
        best = self._best()
        after = best.remedy if best else None
        if after is not None and len(after.each) >= LARGEST:
            return []
        return self.candidates.tuned(self._general(after)) if after else self._general(None)

    def _choose(self, base: Entry | None) -> Remedy | None:
        """The smallest of the finalists that comes near the best on further seeds too."""
        if base is None:
            return None
        floor = self._floor(base)
        ranked = sorted(self.known.values(), key=lambda e: -e.score)
        better = [e for e in ranked if e.remedy is not None and e.score > floor]
        if not better:
            return None
        finalists = self._finalists(better, floor)
        means = self._on_more_seeds(finalists, floor)
        best = max(means.values())
        near = best - MARGIN * (best - floor) if best > floor else best
        close = [e for e in finalists if means[e.name] >= near]
        return min(close, key=lambda e: (*self._size(e), -means[e.name])).remedy

    def _finalists(self, better: list[Entry], floor: float) -> list[Entry]:
        """The best, and the smallest of those that come near it."""
        near = better[0].score - 2 * MARGIN * (better[0].score - floor)
        close = sorted((e for e in better[1:] if e.score >= near), key=lambda e: (self._size(e), -e.score))
        return [better[0], *close[: _FINALISTS - 1]]

    def _on_more_seeds(self, finalists: list[Entry], floor: float) -> dict[str, float]:
        """Mean score of each finalist over the seeds of the search; a lost run is worth what is to be beaten."""
        scores = {e.name: [e.score] for e in finalists}
        if len(finalists) > 1:
            for seed in range(1, 1 + _CHECKED_ON):
                results = self.laboratory.run(self.race.tasks([e.remedy for e in finalists], 1.0, seed))
                for entry, result in zip(finalists, results, strict=True):
                    if result is not None:
                        scores[entry.name].append(max(floor, score_of(result, by_metric=self.race.by_metric)))
        return {name: sum(values) / len(values) for name, values in scores.items()}

    def _size(self, entry: Entry) -> tuple[int, int]:
        """How much is changed; among equals what addresses the blamed cause comes first."""
        assert entry.remedy is not None  # noqa: S101 - asked of remedies only
        aimed = not self.aims or entry.remedy.causes[0] in self.aims[:1]
        return len(entry.remedy.each), int(not aimed)

    def _floor(self, base: Entry) -> float:
        """What is to be beaten; a run that was lost is worth nothing, and less than any other."""
        if base.score > -math.inf:
            return base.score
        return min([0.0, *(e.score for e in self.known.values() if e.score > -math.inf)])

    def _remember(self, entries: list[Entry]) -> list[Entry]:
        self.known |= {entry.name: entry for entry in entries}
        return entries

    def _best(self) -> Entry | None:
        return max(self.known.values(), key=lambda e: e.score, default=None)

    def _done(self) -> bool:
        best = self._best()
        return best is not None and not best.result.lost and best.result.progress >= CLOSED

    def _tuned(self) -> Entry | None:
        rates = [e for e in self.known.values() if e.remedy and set(e.remedy.causes) == {Cause.LEARNING_RATE}]
        return max(rates, key=lambda e: e.score, default=None)

    def _lost(self) -> list[tuple[str, str]]:
        entries = [entry for rung in self.race.rungs for entry in rung.entries]
        return list(dict.fromkeys((e.name, e.result.failed) for e in entries if e.result.failed))
