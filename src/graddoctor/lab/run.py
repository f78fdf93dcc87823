"""Running experiments: every arm under every seed, side by side, then a verdict on each claim."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress

from graddoctor.errors import GraddoctorError, nearest
from graddoctor.lab.compose import compose_lab, tried
from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import EXPERIMENTS
from graddoctor.lab.table import Measured, Row, Table
from graddoctor.lab.workers import Performed, Run, finished, hired
from graddoctor.show.lab import LabReport, Tried
from graddoctor.threads import cores
from graddoctor.tracebacks import first_line

Progress = Callable[[str, int, int, str], None]


def find(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises
    ------
    GraddoctorError
        There is none; the message names those that are near.
    """
    known = {one.name: one for one in EXPERIMENTS}
    if name.strip().lower() not in known:
        raise GraddoctorError(f"the lab has no experiment {name!r}: {nearest(name, known)}")
    return known[name.strip().lower()]


def run(
    *experiments: str | Experiment,
    quick: bool = False,
    seeds: int | None = None,
    workers: int | None = None,
    ray: str | bool = False,
    progress: Progress | None = None,
) -> LabReport:
    """Run experiments of the lab, and say of each claim whether it holds here.

    Parameters
    ----------
    experiments
        Names, or experiments of your own; all that there are if left out.
    quick
        Fewer arms and fewer seeds, for a first look.
    seeds
        How often each arm is drawn; what the experiment says if left out.
    workers
        Processes that train side by side; one a core if left out, 0: this one.
    ray
        ``True`` starts Ray on this machine, a string is the address of a cluster.
    progress
        Called as ``progress(phase, done, total, detail)``.

    Returns
    -------
    A report with every face: ``print`` it, ``save`` it. Experiments that Ctrl-C left unfinished are missing in it.

    Raises
    ------
    GraddoctorError
        An experiment is not known, or there are fewer than two seeds.
    """
    chosen = [find(one) if isinstance(one, str) else one for one in experiments or EXPERIMENTS]
    chosen = list({one.name: one for one in chosen}.values())
    if seeds is not None and seeds < 2:  # noqa: PLR2004 - one draw has no spread
        raise GraddoctorError(f"seeds: expected at least 2, for an interval, got {seeds}")
    plans = [_Plan(one, quick=quick, seeds=seeds) for one in chosen]
    _perform_all(plans, cores() if workers is None else workers, ray=ray, progress=progress or (lambda *_: None))
    done = [plan.outcome() for plan in plans if plan.finished]
    missing = [plan.experiment.name for plan in plans if not plan.finished]
    return compose_lab(done, quick=quick, missing=missing)


class _Plan:
    """An experiment, its runs, and what they gave."""

    def __init__(self, experiment: Experiment, *, quick: bool, seeds: int | None) -> None:
        self.experiment = experiment
        self.seeds = seeds or (experiment.quick_seeds if quick else experiment.seeds)
        arms = experiment.quick if quick else experiment.arms
        self.runs = [Run(experiment.measure, arm, seed) for seed in range(self.seeds) for arm in arms]
        self.given: dict[int, Measured] = {}
        self.seconds = 0.0
        self.failed = ""

    @property
    def finished(self) -> bool:
        return bool(self.failed) or len(self.given) == len(self.runs)

    def keep(self, place: int, future: Future[Performed]) -> None:
        """Take what a run gave; one experiment that fails costs none of the others."""
        try:
            self.given[place], seconds = future.result()
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - told with the experiment
            self.failed = self.failed or _told(error)
            return
        self.seconds += seconds

    def outcome(self) -> Tried:
        table = Table(
            [Row(run.arm, run.seed, self.given[place]) for place, run in enumerate(self.runs) if place in self.given]
        )
        compose = functools.partial(tried, self.experiment, table, seeds=self.seeds, seconds=self.seconds)
        try:
            return compose(failed=self.failed)
        except Exception as error:  # noqa: BLE001 - a question or a picture that asks for what there is not
            return compose(failed=_told(error))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, GraddoctorError) else first_line(error)


def _perform_all(plans: Sequence[_Plan], workers: int, *, ray: str | bool, progress: Progress) -> None:
    planned = [(plan, place, run) for plan in plans for place, run in enumerate(plan.runs)]
    with suppress(KeyboardInterrupt), hired(min(workers, len(planned)), ray=ray) as staff:
        progress("running", 0, len(planned), plans[0].experiment.title)
        runs = finished(staff, [run for *_, run in planned])
        for done, (at, future) in enumerate(runs, start=1):
            plan, place, _ = planned[at]
            plan.keep(place, future)
            progress("running", done, len(planned), plan.experiment.title)
