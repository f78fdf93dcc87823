"""The page of the whole problem: from the first principle to the cures, in text and pictures that are computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from graddoctor.errors import GraddoctorError
from graddoctor.explain.listing import HEADINGS
from graddoctor.explain.lively import Lively, lively
from graddoctor.explain.of_topic import subject
from graddoctor.explain.picture import Picture, Study
from graddoctor.lab.table import Row, Table
from graddoctor.lab.workers import Run, finished, hired
from graddoctor.recording import environment
from graddoctor.show import explanation_words as told
from graddoctor.show._page import quick, rendered, script_json
from graddoctor.show._templates import template
from graddoctor.terms import Cause
from graddoctor.threads import cores
from graddoctor.topics import every, of
from graddoctor.topics.topic import slug

Progress = Callable[[str, int, int, str], None]

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
    problems = [problem for path in paths if (problem := _problem(page, path))]
    if problems:
        raise GraddoctorError("; ".join(problems))


def _problem(page: str, path: Path) -> str:
    """Write the page, or say why not: one path that cannot be written costs none of the others."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as problem:
        return f"cannot write the page to {str(path)!r}: {problem.strerror or problem}"
    return ""


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
        shown = {picture.name: lively(picture, tables[picture.study.name]) for picture in pictures}
    top, *sections = _sections(shown)
    head = Title(top.title, top.lead, environment())
    names = {topic.name for topic in every()}
    return rendered(
        "story.html.j2",
        [one.figure for one in shown.values()],
        report=head,
        sections=sections,
        groups=[(kind, heading, [*map(subject, of(kind))]) for kind, heading in HEADINGS.items()],
        remedies=[(cause, [*map(subject, some)]) for cause in Cause if (some := of("remedy", cause))],
        settings=script_json({name: one.settings() for name, one in shown.items()}),
        told=told,
        prose=lambda text: told.marked_up(text, names.__contains__),
    )


def perform(studies: Sequence[Study], workers: int, progress: Progress) -> dict[str, Table]:
    """Run everything that the pictures show, side by side; all runs begin with the same seed."""
    runs = [(study, Run(study.measure, arm, 0)) for study in studies for arm in study.arms]
    rows: dict[int, Row] = {}
    with hired(min(workers, len(runs)), ray=False) as staff:
        progress("computing", 0, len(runs), studies[0].name)
        for place, future in finished(staff, [run for _, run in runs]):
            study, run = runs[place]
            rows[place] = Row(run.arm, run.seed, future.result()[0])
            progress("computing", len(rows), len(runs), study.name)
    return {
        study.name: Table([rows[place] for place, (one, _) in enumerate(runs) if one is study]) for study in studies
    }


def _sections(shown: dict[str, Lively]) -> Iterator[Section]:
    whole = resources.files("graddoctor.topics").joinpath("story.md").read_text(encoding="utf-8")
    for text in re.split(r"^##? ", whole, flags=re.MULTILINE)[1:]:
        heading, _, body = text.partition("\n")
        parts = re.split(r"\n\n+", body.strip())
        blocks = [_block(part, shown) for part in parts]
        yield Section(
            slug(heading), heading, " ".join(parts[0].split()), tuple(block for block in blocks if block is not None)
        )


def _block(block: str, shown: dict[str, Lively]) -> Markup | Lively | None:
    if picture := _PICTURE.match(block):
        return shown.get(picture[1])
    if formula := _FORMULA.match(block):
        formulas: Any = template("formulas.html.j2").module
        return Markup(getattr(formulas, formula[1])())  # noqa: S704 - our own template
    return told.marked_up(block)
