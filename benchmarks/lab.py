"""Every experiment of the lab in full: its report as a file, and a table of verdicts, effects and seconds.

    python benchmarks/lab.py [NAME ...] [--quick] [--workers N] [--out FOLDER]

The files ``lab/NAME.json`` are what the documentation draws its pictures from; ``lab.md`` is the table. Seconds are
those of computing on one thread, added up over all runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from graddoctor import lab
from graddoctor.lab.compose import compose_lab
from graddoctor.recording import environment
from graddoctor.show import lab_words as told
from graddoctor.show.lab import LabReport

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    began = time.perf_counter()
    report = lab.run(*given.names, quick=given.quick, workers=given.workers, progress=say)
    wall = time.perf_counter() - began
    save(report, given.out, wall)
    print(report)


def say(phase: str, done: int, total: int, detail: str) -> None:
    """Tell how far it is."""
    if done % 20 == 0 or done == total:
        print(f"{phase} {done} of {total}: {detail}", flush=True)


def save(report: LabReport, out: Path, wall: float) -> None:
    """Write one file an experiment, and the table."""
    folder = out / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    for one in report.experiments:
        compose_lab([one], quick=report.quick).save(folder / f"{one.name}.json")
    (out / "lab.md").write_text("\n".join(table(report, wall)) + "\n", encoding="utf-8")


def table(report: LabReport, wall: float) -> Iterator[str]:
    """Verdicts and effects as Markdown."""
    where = environment()
    yield "# The lab" + (", a quick look" if report.quick else "")
    yield ""
    yield report.headline
    yield ""
    yield f"{wall:.0f} s in all; {', '.join(f'{key} {value}' for key, value in where.items())}."
    yield ""
    yield "| experiment | verdict | assertion | outcome | mean | 95 % interval | wanted | runs | seconds |"
    yield "| --- | --- | --- | --- | ---: | --- | --- | ---: | ---: |"
    for one in report.experiments:
        head = (one.name, told.verdict(one) + (f": {one.failed}" if one.failed else ""))
        tail = (str(one.runs), f"{one.seconds:.0f}")
        rows = [(told.says(a), a.outcome, told.mean(a), told.interval(a), told.bound(a)) for a in one.answers]
        for place, row in enumerate(rows or [("", "", "", "", "")]):
            yield f"| {' | '.join((*(head if not place else ('', '')), *row, *(tail if not place else ('', ''))))} |"


if __name__ == "__main__":
    main()
