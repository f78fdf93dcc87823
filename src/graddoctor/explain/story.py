"""The page of the whole problem: from the first principle to the cures, in text and pictures that are computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from graddoctor.errors import GraddoctorError
from graddoctor.explain.of_topic import subject
from graddoctor.explain.picture import Control, Picture, Study
from graddoctor.lab.table import Row, Table
from graddoctor.lab.workers import Performed, Run, hired
from graddoctor.recording import environment
from graddoctor.show import explanation_words as told
from graddoctor.show._page import Figure, figure, quick, rendered, script_json
from graddoctor.show._templates import template
from graddoctor.show.words import minus
from graddoctor.terms import Cause
from graddoctor.threads import cores
from graddoctor.topics import every
from graddoctor.topics.topic import slug

Progress = Callable[[str, int, int, str], None]

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_PICTURE = re.compile(r"^!\[[^\]]*\]\(([\w-]+)\)$")
_FORMULA = re.compile(r"^```formula\n(\w+)\n```$")


@dataclass(frozen=True)
class Title:
    """What the page says of itself at its top."""

    title: str
    headline: str
    environment: dict[str, str]
    verdict: str = "explained"


@dataclass(frozen=True)
class Lively:
    """A figure, what can be set in it, and what it says at every setting."""

    figure: Figure
    controls: tuple[Control, ...]
    said: dict[str, str]
    """By the places of the controls' values, ``"2|0"``."""

    @property
    def first(self) -> str:
        """What it says at first."""
        return self.said["|".join(str(control.values.index(control.start)) for control in self.controls)]


@dataclass(frozen=True)
class Section:
    """A heading of the page and what stands below it."""

    name: str
    title: str
    lead: str
    blocks: tuple[Markup | Lively, ...]


def save_story(paths: Sequence[Path], *, workers: int | None = None, progress: Progress | None = None) -> None:
    """Compute the pictures, and write the page to every path.

    Raises
    ------
    MissingExtraError
        scikit-learn, whose digits the networks read, is not installed.
    GraddoctorError
        A file cannot be written.
    """
    page = story(workers=workers, progress=progress)
    for path in paths:
        _write(page, path)


def _write(page: str, path: Path) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise GraddoctorError(f"cannot write the page to {str(path)!r}: {problem.strerror or problem}") from None


def story(
    pictures: Sequence[Picture] | None = None, *, workers: int | None = None, progress: Progress | None = None
) -> str:
    """Build the page.

    Parameters
    ----------
    pictures
        Those of this package if left out; the text asks for them by name.
    workers
        Processes that compute; one a core if left out, 0: this one.
    progress
        Called as ``progress(phase, done, total, detail)``.

    Returns
    -------
    One self-contained page that needs no network.
    """
    if pictures is None:
        from graddoctor.explain.pictures import PICTURES  # noqa: PLC0415 - loads torch

        pictures = PICTURES
    studies = {picture.study.name: picture.study for picture in pictures}
    tables = perform([*studies.values()], cores() if workers is None else workers, progress or (lambda *_: None))
    with quick():
        lively = {picture.name: _lively(picture, tables[picture.study.name]) for picture in pictures}
    top, *sections = _sections(lively)
    head = Title(top.title, top.lead, environment())
    groups = {kind: [subject(topic) for topic in every() if topic.kind == kind] for kind in ("condition", "cause")}
    remedies = [
        (cause, [subject(one) for one in every() if one.kind == "remedy" and one.term is cause]) for cause in Cause
    ]
    names = {topic.name for topic in every()}
    return rendered(
        "story.html.j2",
        [one.figure for one in lively.values()],
        report=head,
        sections=sections,
        groups=groups,
        remedies=[(cause, some) for cause, some in remedies if some],
        settings=script_json({name: _settings(one) for name, one in lively.items()}),
        told=told,
        prose=lambda text: told.marked_up(text, names.__contains__),
    )


def perform(studies: Sequence[Study], workers: int, progress: Progress) -> dict[str, Table]:
    """Run everything that the pictures show, side by side; all runs begin with the same seed."""
    runs = [(study, Run(study.measure, arm, 0)) for study in studies for arm in study.arms]
    given: dict[int, Row] = {}

    def keep(place: int, future: Future[Performed]) -> None:
        study, run = runs[place]
        given[place] = Row(run.arm, run.seed, future.result()[0])
        progress("computing", len(given), len(runs), study.name)

    with hired(min(workers, len(runs)), ray=False) as staff:
        progress("computing", 0, len(runs), studies[0].name)
        waiting: dict[Future[Performed], int] = {}
        for place, (_, run) in enumerate(runs):
            future = staff.submit(run)
            if future.done():
                keep(place, future)
            else:
                waiting[future] = place
        for future in as_completed(waiting):
            keep(waiting[future], future)
    return {
        study.name: Table([given[place] for place, (one, _) in enumerate(runs) if one is study]) for study in studies
    }


def _lively(picture: Picture, table: Table) -> Lively:
    said = {
        "|".join(str(control.values.index(setting[control.name])) for control in picture.controls): minus(
            raised(picture.told(table, **setting))
        )
        for setting in picture.settings()
    }
    drawn = figure(picture.name, picture.title, picture.draw(table), picture.caption)
    return Lively(drawn, picture.controls, said)


def raised(text: str) -> str:
    """Set powers of ten as such."""
    return re.sub(r"10\^(-?\d+)", lambda power: f"10{power[1].translate(_RAISED)}", text)


def _settings(one: Lively) -> dict[str, Any]:
    """What the page's script needs: values of the charts' parameters, how they are said, and what follows from them."""
    return {
        "controls": {control.name: control.values for control in one.controls},
        "units": {control.name: [control.said(value) for value in control.values] for control in one.controls},
        "said": one.said,
    }


def _sections(lively: dict[str, Lively]) -> Iterator[Section]:
    whole = resources.files("graddoctor.topics").joinpath("story.md").read_text(encoding="utf-8")
    for text in re.split(r"^##? ", whole, flags=re.MULTILINE)[1:]:
        heading, _, body = text.partition("\n")
        parts = re.split(r"\n\n+", body.strip())
        blocks = [_block(part, lively) for part in parts]
        yield Section(
            slug(heading), heading, " ".join(parts[0].split()), tuple(block for block in blocks if block is not None)
        )


def _block(block: str, lively: dict[str, Lively]) -> Markup | Lively | None:
    if picture := _PICTURE.match(block):
        return lively.get(picture[1])
    if formula := _FORMULA.match(block):
        formulas: Any = template("formulas.html.j2").module
        return Markup(getattr(formulas, formula[1])())  # noqa: S704 - our own template
    return told.marked_up(block)
