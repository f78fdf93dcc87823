"""Reports as JSON, both ways; ``schema.json`` and the ``*.schema.json`` beside it describe the forms.

JSON has no NaN and no infinity. Where a report holds one, the JSON has ``null``, and the nearest enclosing object gets
a ``"nonfinite"`` member that maps the place (a JSON Pointer within that object) to ``"nan"``, ``"inf"``, ``"-inf"``::

    {"kind": "activation", "share": null, "nonfinite": {"/share": "nan"}, …}
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import numbers
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union

from graddoctor.errors import GraddoctorError
from graddoctor.show.cure import CURE_SCHEMA, AnyReport, CureReport
from graddoctor.show.explanation import EXPLANATION_SCHEMA, Explanation
from graddoctor.show.lab import LAB_SCHEMA, LabReport
from graddoctor.show.prediction import PREDICTION_SCHEMA, PredictionReport
from graddoctor.show.report import SCHEMA, Report
from graddoctor.terms import Finding, Severity

FLAG = "nonfinite"
_FLAGS = ("nan", "inf", "-inf")
_KINDS: dict[str, tuple[type, int]] = {
    "checkup": (Report, SCHEMA),
    "cure": (CureReport, CURE_SCHEMA),
    "prediction": (PredictionReport, PREDICTION_SCHEMA),
    "lab": (LabReport, LAB_SCHEMA),
    "explanation": (Explanation, EXPLANATION_SCHEMA),
}


def to_dict(report: AnyReport) -> dict[str, Any]:
    """Give a report as dicts, lists, strings, numbers and ``None``: what ``json.dumps`` takes, NaN-free."""
    encoded: dict[str, Any] = _encode_object(report)
    return {name: encoded.pop(name) for name in ("schema", "kind") if name in encoded} | encoded


def to_json(report: AnyReport, *, indent: int | None = None) -> str:
    """Give a report as one JSON object."""
    return json.dumps(to_dict(report), indent=indent, ensure_ascii=False, allow_nan=False)


def from_dict(data: Mapping[str, Any]) -> AnyReport:
    """Rebuild the report that `to_dict` took apart; members it does not know are passed over.

    Raises
    ------
    GraddoctorError
        When the data is no report, or one of a newer schema.
    """
    if not isinstance(data, Mapping) or "verdict" not in data or "schema" not in data:
        raise GraddoctorError('not a graddoctor report: expected a JSON object with "schema" and "verdict"')
    kind = data.get("kind", "checkup")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise GraddoctorError(f"this report is of kind {kind!r}, this graddoctor reads {', '.join(_KINDS)}: upgrade it")
    form, newest = _KINDS[kind]
    if not isinstance(data["schema"], int) or not 1 <= data["schema"] <= newest:
        message = f"this report has schema {data['schema']!r}, this graddoctor reads up to {newest}: upgrade graddoctor"
        raise GraddoctorError(message)
    try:
        report: AnyReport = _decode_object(form, data, "")
    except _MalformedError as problem:
        raise GraddoctorError(f"not a graddoctor report: {problem}") from None
    return report


def from_json(text: str) -> AnyReport:
    """Rebuild a report from its JSON text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise GraddoctorError(f"not a graddoctor report: it is not JSON ({problem})") from None
    return from_dict(data)


def load(path: str | Path) -> AnyReport:
    """Read a report that was saved as ``.json``."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise GraddoctorError(f"cannot read the report {str(path)!r}: {problem}") from None
    try:
        return from_json(text)
    except GraddoctorError as problem:
        raise GraddoctorError(f"cannot read the report {str(path)!r}: {problem}") from problem


class _MalformedError(Exception):
    """Something in the data is not what the report needs; the message says where."""


# --- writing ---------------------------------------------------------------------------------------------------------


def _encode_object(value: Any) -> dict[str, Any]:
    flags: dict[str, str] = {}
    encoded = {
        field.name: _encode(getattr(value, field.name), f"/{field.name}", flags) for field in dataclasses.fields(value)
    }
    if isinstance(value, Finding):
        encoded["confirmed"] = value.confirmed
    return {**encoded, FLAG: flags} if flags else encoded


def _encode(value: Any, place: str, flags: dict[str, str]) -> Any:
    if dataclasses.is_dataclass(value):
        return _encode_object(value)
    if isinstance(value, enum.Enum):
        return _word(value)
    if isinstance(value, Mapping):
        return {str(key): _encode(item, f"{place}/{_escape(str(key))}", flags) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encode(item, f"{place}/{index}", flags) for index, item in enumerate(value)]
    if isinstance(value, (bool, str, type(None))):
        return value
    return _encode_number(value, place, flags)


def _encode_number(value: Any, place: str, flags: dict[str, str]) -> int | float | None:
    """Python's numbers and NumPy's."""
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        flags[place] = "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
        return None
    return number


def _word(member: enum.Enum) -> Any:
    return member.name.lower() if isinstance(member, Severity) else member.value


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# --- reading ---------------------------------------------------------------------------------------------------------


@functools.cache
def _types_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode_object(cls: type, data: Any, place: str) -> Any:
    if not isinstance(data, Mapping):
        raise _MalformedError(f"{place or 'the top'} should be an object, got {_brief(data)}")
    flags = data.get(FLAG, {})
    if not isinstance(flags, Mapping):
        raise _MalformedError(f"{place}/{FLAG} should be an object, got {_brief(flags)}")
    local = {str(key): flag for key, flag in flags.items()}
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            hint = _types_of(cls)[field.name]
            values[field.name] = _decode(hint, data[field.name], _Place(place, f"/{field.name}", local))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _MalformedError(f"{place}/{field.name} is missing")
    return cls(**values)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value stands: the object it belongs to, the way within it, and that object's flags."""

    owner: str
    within: str
    flags: Mapping[str, Any]

    def __str__(self) -> str:
        return self.owner + self.within

    def down(self, key: object) -> _Place:
        return dataclasses.replace(self, within=f"{self.within}/{_escape(str(key))}")


def _decode(hint: Any, data: Any, place: _Place) -> Any:
    if data is None and place.within in place.flags:
        flag = place.flags[place.within]
        return float(_expect(flag in _FLAGS, flag, flag, f"flagged as one of {_FLAGS}", place))
    if dataclasses.is_dataclass(hint):
        return _decode_object(typing.cast("type", hint), data, str(place))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is Literal:
        return _decode_plain(hint, data, place)
    if origin in {types.UnionType, Union}:
        (inner,) = (option for option in arguments if option is not type(None))
        return None if data is None else _decode(inner, data, place)
    if origin is tuple:
        return _decode_tuple(arguments, data, place)
    _expect(isinstance(data, Mapping), data, data, "an object", place)
    return {key: _decode(arguments[1], value, place.down(key)) for key, value in data.items()}


def _decode_tuple(items: tuple[Any, ...], data: Any, place: _Place) -> tuple[Any, ...]:
    _expect(isinstance(data, (list, tuple)), data, data, "a list", place)
    if items[-1] is not Ellipsis:
        _expect(len(items) == len(data), data, data, f"a list of {len(items)}", place)
        return tuple(_decode(hint, item, place.down(i)) for i, (hint, item) in enumerate(zip(items, data, strict=True)))
    if items[0] in _FLOATS and not place.flags and all(map(_FLOATS[items[0]].__contains__, map(type, data))):
        return tuple(data)  # the long ones: histograms, losses, the rows of tables
    return tuple(_decode(items[0], item, place.down(i)) for i, item in enumerate(data))


_FLOATS: dict[Any, frozenset[type]] = {float: frozenset({float}), float | None: frozenset({float, type(None)})}


def _decode_plain(hint: Any, data: Any, place: _Place) -> Any:
    if typing.get_origin(hint) is Literal:
        words = typing.get_args(hint)
        return _expect(data in words, data, data, f"one of {words}", place)
    if issubclass(hint, enum.Enum):
        members = {_word(member): member for member in hint}
        known = isinstance(data, str) and data in members
        return _expect(known, data, members.get(data) if known else None, f"one of {sorted(members)}", place)
    if hint is float:
        number = isinstance(data, (int, float)) and not isinstance(data, bool)
        return _expect(number, data, float(data) if number else None, "a number", place)
    if hint is int:
        return _expect(isinstance(data, int) and not isinstance(data, bool), data, data, "a whole number", place)
    return _expect(isinstance(data, hint), data, data, f"a {hint.__name__}", place)


def _expect(holds: bool, came: Any, value: Any, expected: str, place: _Place) -> Any:  # noqa: FBT001 - a condition
    if not holds:
        raise _MalformedError(f"{place} should be {expected}, got {_brief(came)}")
    return value


def _brief(data: Any, width: int = 40) -> str:
    text = repr(data)
    return text if len(text) <= width else text[: width - 1] + "…"
