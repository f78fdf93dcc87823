"""Settings of a checkup: from ``[tool.graddoctor]`` in pyproject.toml, and over them from the flags."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graddoctor.errors import SettingsError, nearest
from graddoctor.terms import Condition

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``graddoctor check`` can be told; each field is a flag and a key of ``[tool.graddoctor]``.

    Attributes
    ----------
    budget
        Seconds that a checkup may take, or ``None`` for the default.
    steps
        Training steps to look at, at most; ``None``: as many as the recipe trains.
    ignore
        Conditions that are not looked for.
    experiments
        Whether suspicions are put to experiments.
    out
        Files that the report is written to.
    """

    budget: float | None = None
    steps: int | None = None
    ignore: tuple[Condition, ...] = ()
    experiments: bool = True
    out: tuple[Path, ...] = ()

    def overridden(self, **flags: Any) -> Settings:
        """Return the settings with every flag that was given (not ``None``, not empty) in its place."""
        given = {name: value for name, value in flags.items() if value is not None and value != []}
        return replace(self, **{name: _PARSERS[name](value, f"--{name}") for name, value in given.items()})


def read_settings(folder: Path | None = None) -> Settings:
    """Read ``[tool.graddoctor]`` from the nearest pyproject.toml at or above a folder (default: the working directory).

    Raises
    ------
    SettingsError
        The file is no TOML, a key is unknown, or a value cannot be used.
    """
    start = (folder or Path.cwd()).resolve()
    for directory in (start, *start.parents):
        file = directory / "pyproject.toml"
        if file.is_file():
            return _from_table(_table(file), file)
    return Settings()


def _table(file: Path) -> Mapping[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {file}: {error}") from error
    for key in ("tool", "graddoctor"):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{file}: expected a table [tool.graddoctor], got {key} = {table!r}")
    return table


def _from_table(table: Mapping[str, Any], file: Path) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{file} [tool.graddoctor] {key}"
        if key not in _PARSERS:
            raise SettingsError(f"{where}: unknown key; {nearest(key, _PARSERS)}")
        values[key] = _PARSERS[key](value, where)
    if "out" in values:
        values["out"] = tuple(file.parent / path for path in values["out"])
    return Settings(**values)


def _parse_budget(value: Any, where: str) -> float:
    match = _DURATION.fullmatch(str(value).strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match and not isinstance(value, bool) else math.nan
    if not seconds > 0:
        raise SettingsError(f"{where}: expected seconds or a duration such as 90, 90s or 5m, got {value!r}")
    return seconds


def _parse_steps(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"{where}: expected a number of steps from 1 upwards, got {value!r}")
    return value


def _parse_switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: expected true or false, got {value!r}")
    return value


def _parse_conditions(value: Any, where: str) -> tuple[Condition, ...]:
    return tuple(_condition(name, where) for name in _words(value, where))


def _condition(name: str, where: str) -> Condition:
    known = {condition.value: condition for condition in Condition}
    plain = name.strip().lower().replace("-", "_")
    if plain not in known:
        raise SettingsError(f"{where}: no condition {name!r}; {nearest(plain, known)}")
    return known[plain]


def _parse_paths(value: Any, where: str) -> tuple[Path, ...]:
    return tuple(Path(path) for path in _words(value, where))


def _words(value: Any, where: str) -> Sequence[str]:
    words = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, (str, Path)) for word in words):
        raise SettingsError(f"{where}: expected a list of names, got {value!r}")
    return [str(word) for word in words]


_PARSERS: Mapping[str, Callable[[Any, str], Any]] = {
    "budget": _parse_budget,
    "steps": _parse_steps,
    "ignore": _parse_conditions,
    "experiments": _parse_switch,
    "out": _parse_paths,
}
