"""What graddoctor raises. One base class; the message says what was expected, what came, and what to do.

    GraddoctorError
    ├── RecipeError          the recipe, or what it builds, cannot be trained
    ├── RecordingError       a recording cannot be read or written
    └── MissingExtraError    an optional dependency is not installed
"""


class GraddoctorError(Exception):
    """Base of every error that a user can do something about; the command line prints it as one line, exit 2."""


class RecipeError(GraddoctorError):
    """The recipe, or something it builds, cannot be trained as it is."""


class RecordingError(GraddoctorError):
    """A recording cannot be opened, read or written."""


class MissingExtraError(GraddoctorError):
    """An optional dependency is missing; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed: run  pip install "graddoctor[{extra}]"')
