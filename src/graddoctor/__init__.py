"""graddoctor: finds out why a neural network does not train, and shows what cures it."""

from __future__ import annotations

import importlib
import random
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graddoctor.version import __version__ as __version__

if TYPE_CHECKING:
    from graddoctor import testing
    from graddoctor.check import Checkup, check
    from graddoctor.errors import GraddoctorError
    from graddoctor.fix import Cure, fix
    from graddoctor.observe.budget import Budget
    from graddoctor.observe.probe import Probe, probe
    from graddoctor.predict import Prediction, predict
    from graddoctor.recipe import Recipe, load_recipe
    from graddoctor.recording import Recording, Stage
    from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial
    from graddoctor.train import Outcome, train
    from graddoctor.watch import Watch, watch

_HOMES = {
    name: home
    for home, names in {
        "graddoctor.check": ("Checkup", "check"),
        "graddoctor.errors": ("GraddoctorError",),
        "graddoctor.fix": ("Cure", "fix"),
        "graddoctor.observe.budget": ("Budget",),
        "graddoctor.observe.probe": ("Probe", "probe"),
        "graddoctor.predict": ("Prediction", "predict"),
        "graddoctor.recipe": ("Recipe", "load_recipe"),
        "graddoctor.recording": ("Recording", "Stage"),
        "graddoctor.terms": ("Blame", "Cause", "Condition", "Finding", "Severity", "Trial"),
        "graddoctor.train": ("Outcome", "train"),
        "graddoctor.watch": ("Watch", "watch"),
    }.items()
    for name in names
}

__all__ = [
    "Blame",
    "Budget",
    "Cause",
    "Checkup",
    "Condition",
    "Cure",
    "Finding",
    "GraddoctorError",
    "Outcome",
    "Prediction",
    "Probe",
    "Recipe",
    "Recording",
    "Severity",
    "Stage",
    "Trial",
    "Watch",
    "check",
    "fix",
    "load_recipe",
    "predict",
    "probe",
    "testing",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, ``graddoctor --help`` must not."""
    if name not in _HOMES and name != "testing":
        raise AttributeError(f"module 'graddoctor' has no attribute {name!r}")
    state = random.getstate()  # rich draws a number on import, and a first `check` may be called anywhere
    module = importlib.import_module(_HOMES.get(name, f"graddoctor.{name}"))
    random.setstate(state)
    if name not in _HOMES:
        return module
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


class _Package(ModuleType):
    """Keeps ``graddoctor.check`` the function: importing the file of that name would put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what is imported there, within functions of the user's that name it."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
