"""From what was measured to a report: questions answered, pictures as data, a verdict on each claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from graddoctor.lab.experiment import Experiment, Picture
from graddoctor.lab.judgement import answer, judge
from graddoctor.lab.table import Numbers, Row, Table
from graddoctor.show.lab import LabChart, LabReport, Mark, Tried
from graddoctor.show.lab_words import counts
from graddoctor.version import __version__


def compose_lab(experiments: Sequence[Tried], *, quick: bool = False, missing: Sequence[str] = ()) -> LabReport:
    """Make the report of experiments."""
    other = [one for one in experiments if not one.as_foreseen]
    return LabReport(
        title=experiments[0].title if len(experiments) == 1 else f"{len(experiments)} experiments",
        verdict="different" if other else "as expected",
        headline=_headline(experiments, other),
        experiments=tuple(experiments),
        quick=quick,
        missing=tuple(missing),
        environment={"graddoctor": __version__, "torch": torch.__version__},
    )


def _headline(experiments: Sequence[Tried], other: Sequence[Tried]) -> str:
    if len(experiments) == 1:
        return experiments[0].claim
    told = f"Of {len(experiments)} claims, {', '.join(f'{count} {kind}' for kind, count in counts(experiments))}."
    return told + (f" Other than foreseen: {', '.join(one.name for one in other)}." if other else "")


def tried(experiment: Experiment, table: Table, *, seeds: int, seconds: float = 0.0, failed: str = "") -> Tried:
    """Put an experiment and what it measured into the form that faces show."""
    answers = () if failed else tuple(answer(question, table) for question in experiment.questions)
    return Tried(
        name=experiment.name,
        title=experiment.title,
        claim=experiment.claim,
        source=experiment.source,
        expected=experiment.expected,
        scaled=experiment.scaled,
        lesson=experiment.lesson,
        verdict="inconclusive" if failed else judge(answers),
        foreseen=experiment.verdict,
        answers=answers,
        charts=() if failed else tuple(drawn(picture, table) for picture in experiment.pictures),
        seeds=seeds,
        runs=len(table.rows),
        seconds=seconds,
        failed=failed,
    )


def drawn(picture: Picture, table: Table) -> LabChart:
    """Take the means of a picture's value over the seeds, and how far they reach."""
    return LabChart(
        kind=picture.kind,
        x_title=picture.x_title or picture.x.replace("_", " "),
        y_title=picture.y_title,
        marks=tuple(_marks(picture, table.where(**picture.where))),
        log_x=picture.log_x,
        log_y=picture.log_y,
    )


def _marks(picture: Picture, table: Table) -> Iterator[Mark]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in table.rows:
        groups.setdefault(tuple(row.arm.get(part) for part in (picture.x, picture.by, picture.panel)), []).append(row)
    settings = list(dict.fromkeys(x for x, _, _ in groups))
    for (x, by, panel), rows in groups.items():
        measured = _curves(rows, picture.value)
        theory = _curves(rows, picture.expected).mean(axis=0) if picture.expected else None
        for place, here in enumerate(measured.T):
            at, word = _where(picture, x, settings) if picture.x else (picture.first + picture.every * place, "")
            yield Mark(
                x=at,
                x_name=word,
                y=float(here.mean()),
                low=float(here.min()),
                high=float(here.max()),
                by=_named(picture, picture.by, by),
                panel=_named(picture, picture.panel, panel),
                expected=None if theory is None else float(theory[place]),
            )


def _curves(rows: Sequence[Row], value: str) -> Numbers:
    """A row for each seed; of numbers, of one place."""
    return np.array([np.atleast_1d(row.values[value]) for row in rows], dtype=np.float64)


def _where(picture: Picture, x: Any, settings: Sequence[Any]) -> tuple[float, str]:
    """Where a setting stands on the axis: at its number, or as a word in the order of the arms."""
    if isinstance(x, (int, float)) and not isinstance(x, bool) and not picture.names.get(picture.x):
        return float(x), ""
    return float(settings.index(x)), _named(picture, picture.x, x)


def _named(picture: Picture, part: str, setting: Any) -> str:
    """A setting in words."""
    if not part:
        return ""
    return picture.names.get(part, {}).get(setting) or (f"{setting:g}" if isinstance(setting, float) else str(setting))
