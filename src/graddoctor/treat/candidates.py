"""Candidates for a race: the remedies that the causes ask for, each at the given rate and at the rate that suits it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.sweep import suiting
from graddoctor.prove.task import Task
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.initialization import critical
from graddoctor.remedies.optimizer import rate
from graddoctor.remedies.pharmacy import OWN_RATE, prescribe, respects
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.trainings import ordinary_trainings
from graddoctor.terms import Cause

MOST = 5
"""So many remedies of one cause are tried at most."""

LARGEST = 3
"""So many single remedies make up a cure at most."""

LARGEST_THROUGH_TIME = 4
"""The same where a state is carried through time: a cell and its start, under a training that has a rate and a clip."""

_WITH_START = 3  # so many activations are tried together with the start that they ask for
_LADDER = (0.1, 10.0)


class Candidates:
    """Makes candidates for one patient.

    Parameters
    ----------
    keep
        What must not change, of `graddoctor.remedies.pharmacy.KEEPABLE`.
    largest
        So many single remedies make up a candidate at most.
    """

    def __init__(
        self, facts: Facts, laboratory: Laboratory, keep: Collection[str] = (), *, largest: int = LARGEST
    ) -> None:
        self.facts, self.laboratory, self.keep, self.largest = facts, laboratory, keep, largest
        self.failed: list[tuple[str, str]] = []

    @cached_property
    def rates(self) -> bool:
        """Whether the rate may be changed, and can be: an optimizer of the user's own may not let anybody."""
        try:
            return self.allowed(rate(self.facts, _LADDER[-1]))
        except Exception as error:  # noqa: BLE001 - all else can still be tried
            self.failed.append(("learning rate", f"{type(error).__name__}: {error}"))
            return False

    def of(self, cause: Cause, after: Remedy | None = None) -> list[Remedy]:
        """Collect what one cause asks for, on top of another remedy if there is one; a rate is found by `tuned`."""
        if after and cause is Cause.OPTIMIZER:  # another optimizer comes with a rate of its own
            after = combined(part for part in after.each if part.rate == 1.0)
        facts = self.facts.after(after) if after else self.facts
        found = prescribe(cause, facts, self.failed)[:MOST]
        if cause is Cause.ACTIVATION:
            started = [both for one in found[:_WITH_START] if (both := self._with_start(one, facts)) is not None]
            found = [*started, *found]
        found = [one for one in found if self.allowed(one)]
        return [after.then(one) for one in found] if after else found

    def trained(self, remedies: Sequence[Remedy | None]) -> list[Remedy]:
        """Put each remedy, and the recipe as given (``None``), under the ordinary trainings of recurrent networks."""
        trainings = ordinary_trainings(self.facts)
        both = (one.then(training) if one else training for one in remedies for training in trainings)
        return [one for one in both if len(one.each) <= self.largest and self.allowed(one)]

    def allowed(self, remedy: Remedy) -> bool:
        """Whether it leaves alone what is to be kept."""
        return respects(remedy, self.keep)

    def _with_start(self, swap: Remedy, facts: Facts) -> Remedy | None:
        """An activation together with the initialization that it asks for."""
        try:
            start = critical(facts.after(swap))
        except Exception as error:  # noqa: BLE001 - the activation alone may still do
            self.failed.append((f"initialization after {swap.name}", f"{type(error).__name__}: {error}"))
            return None
        return swap.then(start) if start else None

    def tuned(self, remedies: Sequence[Remedy | None]) -> list[Remedy]:
        """Give each remedy, and the recipe as given (``None``), the rate that a sweep of it asks for, beside its own.

        One sweep serves all remedies whose last part addresses the same cause: they change the gradient's scale alike.
        """
        if not self.rates:
            return [one for one in remedies if one is not None]
        kinds: dict[tuple[Cause, ...], Remedy | None] = {}
        for one in remedies:
            if one is None or one.each[-1].causes[0] in OWN_RATE:
                kinds.setdefault(_kind(one), one)
        results = self.laboratory.run([Task(one, sweep=True) for one in kinds.values()])
        factors = {kind: suiting(r.best if r else None) for kind, r in zip(kinds, results, strict=True)}
        found: list[Remedy] = []
        for one in remedies:
            factor = factors.get(_kind(one))
            if one is None:
                wanted = [f for f in (factor, *_LADDER) if f is not None]
                found += [rate(self.facts, f) for f in dict.fromkeys(wanted)]
                continue
            found.append(one)
            if factor is not None and len((other := self.at(one, factor)).each) <= self.largest:
                found.append(other)
        return found

    def at(self, remedy: Remedy, factor: float) -> Remedy:
        """Combine a remedy with a factor of its rate; a factor that it has already is changed where it stands."""
        if not self.rates:
            return remedy
        factor = float(f"{factor * remedy.rate:.2g}")
        changed = rate(self.facts, factor)
        parts = [changed if part.rate != 1.0 else part for part in remedy.each]
        return combined(parts if changed in parts else [*parts, changed]) or remedy


def combined(parts: Iterable[Remedy]) -> Remedy | None:
    """One remedy after the other; ``None`` for none."""
    whole: Remedy | None = None
    for part in parts:
        whole = whole.then(part) if whole else part
    return whole


def _kind(remedy: Remedy | None) -> tuple[Cause, ...]:
    return tuple(part.causes[0] for part in remedy.each) if remedy else ()
