"""What graddoctor raises. One base class; the message says what was expected, what came, and what to do.

GraddoctorError
├── RecipeError          the recipe, or what it builds, cannot be trained
├── RecordingError       a recording cannot be read or written
├── TrialsError          the file of finished trials, or what trains them, cannot be used
├── SettingsError        a flag, or a setting in pyproject.toml, cannot be used
└── MissingExtraError    an optional dependency is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraddoctorError(Exception):
    """Base of every error that a user can do something about; the command line prints it as one line, exit 2."""


class RecipeError(GraddoctorError):
    """The recipe, or something it builds, cannot be trained as it is."""


class RecordingError(GraddoctorError):
    """A recording cannot be opened, read or written."""


class TrialsError(GraddoctorError):
    """The file of finished trials cannot be used, or the workers that train them cannot be had."""


class SettingsError(GraddoctorError):
    """A flag, or a setting under ``[tool.graddoctor]``, is unknown or has a value that cannot be used."""


class MissingExtraError(GraddoctorError):
    """An optional dependency is missing; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed: run  pip install "graddoctor[{extra}]"')


def nearest(wanted: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return ``"did you mean …?"`` with the names next to a misspelt one, or else other advice, or all names."""
    names = list(known)
    near = difflib.get_close_matches(wanted, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else otherwise or f"known are {', '.join(names)}"
