"""What an experiment measured: a row for every arm and seed, and the few ways in which questions read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graddoctor.errors import GraddoctorError

Arm = Mapping[str, Any]
"""What one run of an experiment is given beside its seed."""

Measured = Mapping[str, float | Sequence[float]]
"""What one run gives: numbers, and curves."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One run."""

    arm: Arm
    seed: int
    values: Measured

    def number(self, name: str) -> float:
        """One of its numbers."""
        return float(self.values[name])  # type: ignore[arg-type]

    def curve(self, name: str) -> Sequence[float]:
        """One of its curves."""
        return self.values[name]  # type: ignore[return-value]


@dataclass(frozen=True)
class Table:
    """All runs of an experiment.

    Examples
    --------
    >>> table = Table([Row({"depth": d}, s, {"lost": d + 0.1 * s}) for d in (5, 10) for s in (0, 1)])
    >>> table.of("lost", depth=10).round(1).tolist()
    [10.0, 10.1]
    >>> table.difference("lost", {"depth": 10}, {"depth": 5}).round(1).tolist()
    [5.0, 5.0]
    >>> table.slope("lost", over="depth").round(1).tolist()
    [1.0, 1.0]
    """

    rows: Sequence[Row]

    def where(self, **arm: Any) -> Table:
        """Keep the runs of these arms."""
        return Table([row for row in self.rows if all(row.arm.get(name) == value for name, value in arm.items())])

    def each(self, name: str) -> list[Any]:
        """What a part of the arms was set to, each once, in the order of the runs."""
        return list(dict.fromkeys(row.arm[name] for row in self.rows))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({row.seed for row in self.rows})

    def of(self, value: str, **arm: Any) -> Numbers:
        """One number, or one curve, a seed, of the one arm that is meant.

        Raises
        ------
        GraddoctorError
            There is no such arm, or more than one.
        """
        found = self.where(**arm)
        rows = {row.seed: row for row in found.rows}
        if not rows or len(rows) != len(found.rows):
            arms = [dict(row.arm) for row in found.rows if row.seed == found.seeds[0]]
            raise GraddoctorError(f"a question about {value!r} must name one arm, {arm} names {arms or 'none'}")
        return np.array([rows[seed].values[value] for seed in sorted(rows)], dtype=np.float64)

    def difference(self, value: str, arm: Arm, other: Arm, **both: Any) -> Numbers:
        """How much higher a value is in an arm than in the other, seed by seed."""
        return self.of(value, **arm, **both) - self.of(value, **other, **both)

    def slope(self, value: str, *, over: str, **arm: Any) -> Numbers:
        """How much a value grows with a part of the arms: the least-squares line of each seed."""
        here = self.where(**arm)
        places = here.each(over)
        values = np.array([here.of(value, **{over: place}) for place in places])
        return np.polyfit(np.array(places, dtype=np.float64), values, 1)[0]  # type: ignore[no-any-return]

    def tuned(self, value: str, *, over: str, **arm: Any) -> Numbers:
        """A value at whichever setting of a part makes its mean the highest: every arm its own best learning rate."""
        here = self.where(**arm)
        return max(
            (here.of(value, **{over: setting}) for setting in here.each(over)), key=lambda one: float(one.mean())
        )
