"""What the lab has to offer, as a list."""

from __future__ import annotations

import json
from collections.abc import Sequence

from graddoctor.lab.experiments import EXPERIMENTS
from graddoctor.lab.run import find
from graddoctor.show.lab import LAB_SCHEMA


def named(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the experiments that are meant; ``all`` means all of them.

    Raises
    ------
    GraddoctorError
        There is no experiment of a name.
    """
    if "all" in names:
        return tuple(one.name for one in EXPERIMENTS)
    return tuple(find(name).name for name in names)


def listing() -> str:
    """Names and titles, and how to go on."""
    widest = max(len(one.name) for one in EXPERIMENTS)
    lines = [f"  {one.name:<{widest}}  {one.title}" for one in EXPERIMENTS]
    return "\n".join(
        [
            f"{len(EXPERIMENTS)} classic claims, to be put to the test on this machine:",
            "",
            *lines,
            "",
            "graddoctor lab NAME runs one, graddoctor lab all --quick --out lab.html has a first look at all.",
        ]
    )


def listing_json() -> str:
    """The list as one JSON object."""
    told = [
        {"name": one.name, "title": one.title, "claim": one.claim, "source": one.source, "foreseen": one.verdict}
        for one in EXPERIMENTS
    ]
    return json.dumps({"schema": LAB_SCHEMA, "experiments": told}, ensure_ascii=False)
