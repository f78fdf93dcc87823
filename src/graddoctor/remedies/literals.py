"""Python values as text, laid out as a formatter would leave it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name everybody uses

from graddoctor.errors import GraddoctorError

WIDTH = 100
"""Columns of a written line."""

INDENT = "    "

_PLACES: tuple[tuple[str, Any], ...] = (
    ("nn", nn),
    ("torch", torch),
    ("F", F),
    ("torch.optim", torch.optim),
    ("torch.optim.lr_scheduler", torch.optim.lr_scheduler),
    ("nn.init", nn.init),
    ("nn.utils", nn.utils),
)


@dataclass(frozen=True)
class Text:
    """A piece of source: a word, or brackets with pieces in between.

    Attributes
    ----------
    start
        The word, or what stands before the first item, bracket included.
    items
        What stands between the brackets; each may begin with a key.
    end
        The closing bracket; ``""`` for a word.
    call
        Whether it is a call: its items may share one line of their own, those of a collection may not.
    key
        What it is the value of, in a dict.
    """

    start: str
    items: tuple[Text, ...] = ()
    end: str = ""
    call: bool = False
    key: Text | None = None

    def __str__(self) -> str:
        """Return it in one line."""
        if self.key is not None:
            return f"{self.key}: {replace(self, key=None)}"
        tuple_of_one = self.start.endswith("(") and not self.call and len(self.items) == 1
        comma = "," if tuple_of_one else ""
        return f"{self.start}{', '.join(map(str, self.items))}{comma}{self.end}"

    def laid_out(self, level: int = 0, before: str = "", after: str = "") -> str:
        """Return it broken into lines of 100 columns.

        Parameters
        ----------
        level
            Indentation of the statement, in steps of four columns. The first line has none: it stands in `before`.
        before, after
            What stands on the first line before it, and on the last after it.
        """
        line = f"{before}{self}{after}"
        if len(line) <= WIDTH:
            return line
        if self.key is not None:
            value = replace(self, key=None)
            begin = f": {value.start}" if value.items else f": {value}{after}"
            key = self.key.laid_out(level, before, begin).removesuffix(begin)
            *above, last = key.split("\n")
            return "\n".join([*above, value.laid_out(level, f"{last}: ", after)])
        if not self.items:
            return line
        inner = INDENT * (level + 1)
        row = inner + ", ".join(map(str, self.items))
        if self.call and len(row) <= WIDTH:
            rows = [row]
        else:
            rows = [item.laid_out(level + 1, inner, ",") for item in self.items]
        return "\n".join([f"{before}{self.start}", *rows, f"{INDENT * level}{self.end}{after}"])

    def named(self, name: str) -> Text:
        """Return it as the argument of this name."""
        return replace(self, start=f"{name}={self.start}")


def call(function: str, *positional: str | Text, **named: Any) -> Text:
    """Return a call; positional arguments are source, named ones values."""
    items = [Text(item) if isinstance(item, str) else item for item in positional]
    items += [literal(value).named(name) for name, value in named.items()]
    return Text(f"{function}(", tuple(items), ")", call=True)


def literal(value: Any) -> Text:
    """Return the source of a value: numbers, strings, containers of them, and what ``torch`` has a name for.

    Raises
    ------
    GraddoctorError
        It cannot be written down.
    """
    if isinstance(value, Mapping):
        return Text("{", tuple(replace(literal(v), key=literal(k)) for k, v in value.items()), "}")
    if isinstance(value, list):
        return Text("[", tuple(map(literal, value)), "]")
    if isinstance(value, tuple):
        return Text("(", tuple(map(literal, value)), ")")
    if isinstance(value, torch.Tensor) and _is_plain_scalar(value):
        return call("torch.tensor", Text(repr(value.item())))
    if value is None or isinstance(value, (bool, int, float, str)):
        return Text(_word(value))
    return Text(name_in_torch(value))


def name_in_torch(value: Any) -> str:
    """Return the name by which plain code calls a class, function or dtype of ``torch``, such as ``nn.ReLU``.

    Raises
    ------
    GraddoctorError
        It has none.
    """
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    name = getattr(value, "__name__", "")
    for place, module in _PLACES:
        if name and getattr(module, name, None) is value:
            return f"{place}.{name}"
    msg = (
        f"expected a number, a string, a container of them or a class or function of torch, got {value!r:.60}: "
        "nothing else can be written as plain PyTorch"
    )
    raise GraddoctorError(msg)


def wrapped(words: Iterable[str], first: str, following: str) -> list[str]:
    """Break words into lines of 100 columns, the first after `first`, the others after `following`."""
    lines, line, empty = [], first, True
    for word in words:
        if not empty and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line, empty = following, True
        line, empty = (line if empty else f"{line} ") + word, False
    return [*lines, line]


def _word(value: float | str | None) -> str:
    if isinstance(value, str):
        return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value).replace("e+", "e")


def _is_plain_scalar(value: torch.Tensor) -> bool:
    return value.ndim == 0 and value.dtype == torch.get_default_dtype() and value.device.type == "cpu"
