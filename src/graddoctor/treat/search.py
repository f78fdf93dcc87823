"""The search: candidates from the ranked causes, a race, the rate tuned on both sides, and the smallest wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graddoctor.prove.laboratory import Laboratory
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.treat.candidates import Candidates, combined
from graddoctor.treat.race import Entry, Race, Rung

CLOSED = 0.95
"""A progress, and a metric, from which on nothing more is looked for."""

MARGIN = 0.1
"""A smaller change wins that comes as near to the best as this share of what the best gains."""

_SHARES = (0.25, 0.5, 1.0)
_SHARES_COMBINED = (0.25, 1.0)
_FURTHER = (1, 2)  # seeds that the finalists are tried on before one is chosen
_HOLDS = 0.8  # of what it reached on the first seed
_FINALISTS = 3
_FINE = (1 / 3, 3.0)
_ANYWHERE_NEAR = 0.5  # of what the best gains
_AT_ONCE = 2  # remedies of what carries a state that are tried before one looks
_CLIMBS = 2  # so often a rate is followed to where it is better still

_GENERAL = {
    Cause.INPUT_SCALE: 1,
    Cause.TARGET_SCALE: 1,
    Cause.INITIALIZATION: 1,
    Cause.ACTIVATION: 1,
    Cause.OPTIMIZER: 2,
    Cause.NORMALIZATION: 1,
    Cause.DEPTH: 2,
    Cause.CLIPPING: 1,
}
"""What is tried, so many remedies of each, where no cause is known or where undoing it leaves much to gain."""


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
    leader
        The best of those that came furthest, where that is better than the recipe as given: what there is to say if a
        search ends early.
    failed
        Prescriptions that were lost, and why.
    """

    remedy: Remedy | None = None
    rungs: tuple[Rung, ...] = ()
    plain: Entry | None = None
    tuned: Entry | None = None
    leader: Entry | None = None
    failed: tuple[tuple[str, str], ...] = ()


@dataclass
class Search:
    """One search, stage by stage.

    Parameters
    ----------
    aims
        Causes, the most to blame first; empty where the diagnosis names none.
    through_time
        Whether what is wrong is how a state is carried through time.
    """

    laboratory: Laboratory
    candidates: Candidates
    race: Race
    aims: Sequence[Cause]
    through_time: bool = False
    known: dict[str, Entry] = field(default_factory=dict)

    def run(self) -> Found:
        """Run all stages; what the deadline leaves out is not looked at."""
        if self.race.begin() is None:
            return self.found()
        if not (self.through_time and self._through_time()):
            self._remember(self.race.halve(self._first(), _SHARES, "first choice"))
        self._refine()
        if not self._done():
            more = self._more()
            if more:
                self._remember(self.race.halve(more, _SHARES_COMBINED, "in combination"))
                self._refine()
        self._tune()
        self._pare()
        return self.found(self._choose() or self._when_late())

    def _through_time(self) -> bool:
        """Try what the first cause asks for under ordinary trainings of recurrent networks; whether anything learns.

        All at full length: a long memory shows late and then at once, so that shorter runs would choose by chance.
        """
        aimed: list[Remedy | None] = [*(self.candidates.of(self.aims[0]) if self.aims else [])]
        for some in ([None, *aimed[:_AT_ONCE]], *([one] for one in aimed[_AT_ONCE:])):
            candidates = self.candidates.trained(some)
            if candidates and not self._done():
                self._remember(self.race.rung(candidates, 1.0, len(candidates), "through time"))
        return any(entry.result.progress > MARGIN for entry in self.known.values())

    def _when_late(self) -> Remedy | None:
        """Where the deadline left no run at full length, put to the proof what led."""
        leader = self._leader() if self.laboratory.skipped else None
        return leader.remedy if leader else None

    def found(self, remedy: Remedy | None = None) -> Found:
        """Put together what is known so far."""
        failed = tuple(self.candidates.failed)
        return Found(remedy, tuple(self.race.rungs), self.race.base, self._tuned(), self._leader(), failed)

    def _first(self) -> list[Remedy]:
        """What the blamed causes ask for, and the recipe's own rate tuned."""
        aimed = [one for cause in self.aims for one in self.candidates.of(cause)]
        if not aimed and Cause.LEARNING_RATE not in self.aims:
            aimed = self._general(None)
        return self.candidates.tuned([None, *aimed])

    def _general(self, after: Remedy | None) -> list[Remedy]:
        seen = {cause for part in after.each for cause in part.causes} if after else set()
        each = {cause: number for cause, number in _GENERAL.items() if cause not in seen}
        found = [one for cause, number in each.items() for one in self.candidates.of(cause, after)[:number]]
        return [one for one in found if len(one.each) <= self.candidates.largest]

    def _refine(self) -> None:
        """Try the best at finer rates, and go on where that is better still."""
        for _ in range(_CLIMBS):
            best = self._best()
            if best is None or self._done() or not self._run_near(best.remedy):
                return

    def _run_near(self, remedy: Remedy | None) -> bool:
        """Run a remedy at a third and three times its rate; whether there was anything to run."""
        near = [self.candidates.at(remedy, factor) for factor in _FINE] if remedy else []
        near = [one for one in near if one.name not in self._ran and self._possible(one)]
        if near:
            self._remember(self.race.rung(near, 1.0, len(near), "finer rates"))
        return bool(near)

    @property
    def _ran(self) -> set[str]:
        """Names of all that ran at full length, lost or not."""
        return {e.name for rung in self.race.rungs if rung.steps == self.race.horizon for e in rung.entries}

    def _possible(self, remedy: Remedy) -> bool:
        return len(remedy.each) <= self.candidates.largest and self.candidates.allowed(remedy)

    def _more(self) -> list[Remedy]:
        """The best so far, with one more remedy of another cause."""
        best = self._best()
        after = best.remedy if best else None
        if after is not None and len(after.each) >= self.candidates.largest:
            return []
        return self.candidates.tuned(self._general(after)) if after else self._general(None)

    def _tune(self) -> None:
        """Follow the rate of the recipe as given too, where that comes anywhere near: nothing is to win by its rate."""
        for _ in range(_CLIMBS):
            worth = {entry.name: value for entry, value in self._ranked()}
            best, tuned = self._best(), self._tuned()
            if best is None or tuned is None or best is tuned or worth[tuned.name] < _ANYWHERE_NEAR * worth[best.name]:
                return
            if not self._run_near(tuned.remedy):
                return

    def _pare(self) -> None:
        """Try the best without one of its parts, and its rate alone: what does as well with less is to be known."""
        best = self._best()
        parts = best.remedy.each if best is not None and best.remedy is not None else ()
        training = [part for part in parts if self._trains(part)]
        others = [part for part in parts if not self._trains(part)]
        leading = [[*others[:k], *training] for k in range(1, len(others))]  # each was made for what stands before it
        fewer = [some for some in map(combined, (others, training, *leading)) if some and some.name not in self._ran]
        if fewer and len(parts) > 1:
            self._remember(self.race.rung(fewer, 1.0, len(fewer), "with less"))

    def _trains(self, part: Remedy) -> bool:
        """Whether it is of the training; one for what carries a state stays whole: a clip shows its worth by luck."""
        return part.rate != 1.0 or (self.through_time and part.causes[0] in {Cause.OPTIMIZER, Cause.CLIPPING})

    def _choose(self) -> Remedy | None:
        """The smallest of the finalists that comes near the best on further seeds too."""
        finalists = self._finalists()
        if not finalists:
            return None
        means = self._on_more_seeds(finalists)
        near = (1 - MARGIN) * max(means.values())
        close = [e for e in finalists if means[e.name] >= near]
        return min(close, key=lambda e: (*self._size(e), -means[e.name])).remedy

    def _finalists(self) -> list[Entry]:
        """The best, and the smallest of those that come near it."""
        ranked = [(e, worth) for e, worth in self._ranked() if e.remedy is not None and worth > MARGIN]
        if not ranked:
            return []
        near = (1 - 2 * MARGIN) * ranked[0][1]
        close = sorted((one for one in ranked[1:] if one[1] >= near), key=lambda one: self._size(one[0]))
        return [ranked[0][0], *(entry for entry, _ in close[: _FINALISTS - 1])]

    def _on_more_seeds(self, finalists: list[Entry]) -> dict[str, float]:
        """Mean worth of each finalist over the seeds of the search; a lost run is worth nothing."""
        if len(finalists) == 1:
            return {finalists[0].name: 1.0}
        runs = [(entry.name, entry.result) for entry in finalists]
        for seed in _FURTHER:
            results = self.laboratory.run(self.race.tasks([e.remedy for e in finalists], 1.0, seed))
            runs += [(e.name, r) for e, r in zip(finalists, results, strict=True) if r is not None]
        means: dict[str, list[float]] = {entry.name: [] for entry in finalists}
        for (name, _), worth in zip(runs, self.race.worth([result for _, result in runs]), strict=True):
            means[name].append(max(0.0, worth))
        return {name: sum(values) / len(values) for name, values in means.items()}

    def _size(self, entry: Entry) -> tuple[int, int]:
        """How much is changed; among equals what addresses the blamed cause comes first."""
        assert entry.remedy is not None  # noqa: S101 - asked of remedies only
        aimed = not self.aims or entry.remedy.causes[0] in self.aims[:1]
        return len(entry.remedy.each), int(not aimed)

    def _remember(self, entries: list[Entry]) -> None:
        self.known |= {entry.name: entry for entry in entries}

    def _ranked(self) -> list[tuple[Entry, float]]:
        """All that ran at full length with their worth, the best first."""
        entries = list(self.known.values())
        worth = self.race.worth([entry.result for entry in entries]) if entries else []
        return sorted(zip(entries, worth, strict=True), key=lambda one: -one[1])

    def _best(self) -> Entry | None:
        ranked = self._ranked()
        return ranked[0][0] if ranked and ranked[0][1] > 0 else None

    def _done(self) -> bool:
        """Whether next to nothing is left to gain, in the loss and in a metric whose best is 1, and not by luck."""
        best = self._best()
        if best is None or best.result.lost:
            return False
        closed = best.result.progress >= CLOSED and (best.result.metric is None or best.result.metric >= CLOSED)
        return closed and self._holds(best)

    def _holds(self, entry: Entry) -> bool:
        """Whether it does well on the further seeds of the search too."""
        tasks = [task for seed in _FURTHER for task in self.race.tasks([entry.remedy], 1.0, seed)]
        results = [result for result in self.laboratory.run(tasks) if result is not None]
        return all(not r.lost and r.progress >= _HOLDS * entry.result.progress for r in results)

    def _tuned(self) -> Entry | None:
        rates = [e for e, _ in self._ranked() if e.remedy and set(e.remedy.causes) == {Cause.LEARNING_RATE}]
        return rates[0] if rates else None

    def _leader(self) -> Entry | None:
        furthest = max((rung.steps for rung in self.race.rungs[1:]), default=0)
        entries = [e for rung in self.race.rungs[1:] if rung.steps == furthest for e in rung.entries]
        worth = self.race.worth([entry.result for entry in entries]) if entries else []
        best = max(zip(worth, entries, strict=True), key=lambda one: one[0], default=None)
        return best[1] if best and best[0] > 0 else None
