"""The text of plain functions, with all that they need from their file, so that it can stand elsewhere."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.literals import Text, wrapped

PLAIN = "graddoctor.remedies.plain"

USUAL = """
import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
"""
"""Imports that written code may name beside those of the plain files."""

_PRAGMA = re.compile(r"\s*# (noqa|type: ignore).*$", re.MULTILINE)


@dataclass(frozen=True)
class _Definition:
    """A function, class or constant of a file: its text, the names that it uses, and whether it is a block of lines."""

    text: str
    names: frozenset[str]
    block: bool
    place: tuple[int, int]


@dataclass(frozen=True)
class _File:
    definitions: dict[str, _Definition]
    imports: dict[str, tuple[str, str]]


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a function is one of `graddoctor.remedies.plain`, whose text can be taken."""
    module = getattr(function, "__module__", "") or ""
    return module.startswith(f"{PLAIN}.") and getattr(function, "__qualname__", ".").isidentifier()


def helpers(functions: Iterable[Callable[..., Any]]) -> str:
    """Return the text of plain functions and of what they name in their own file, in the order of the files.

    Raises
    ------
    GraddoctorError
        Two files define the same name.
    """
    wanted: dict[str, list[str]] = {}
    for function in functions:
        wanted.setdefault(function.__module__, []).append(function.__name__)
    parts, seen = [], dict[str, str]()
    for module, names in wanted.items():
        found = _needed(_file(module), names)
        for name in found:
            if seen.setdefault(name, module) != module:
                msg = f"{name} is defined in {seen[name]} and in {module}: plain functions need names of their own"
                raise GraddoctorError(msg)
        parts.append(_joined(list({d.place: d for d in found.values()}.values())))
    return "\n\n\n".join(parts)


def imports(body: str, modules: Iterable[str]) -> str:
    """Return the imports that a piece of source needs, from those of the usual ones and of some plain files."""
    known = _imports(ast.parse(USUAL))
    for module in modules:
        known |= _file(module).imports
    used = _names(ast.parse(body))
    needed = sorted({known[name] for name in used if name in known}, key=_member_order)
    sections = ["from __future__ import annotations"]
    for ours in (True, False):
        section = [one for one in needed if (_root(one) in sys.stdlib_module_names) is ours]
        if section:
            sections.append("\n".join(_import_lines(section)))
    return "\n\n".join(sections)


def gap_before(body: str) -> str:
    """Return the empty lines above a body: more before a function than before a constant."""
    return "\n\n\n" if isinstance(ast.parse(body).body[0], (ast.FunctionDef, ast.ClassDef)) else "\n\n"


def _needed(file: _File, names: Iterable[str]) -> dict[str, _Definition]:
    """The definitions that some names need, transitively, in the order of the file."""
    left, found = list(names), set[str]()
    while left:
        name = left.pop()
        if name in found or name not in file.definitions:
            continue
        found.add(name)
        left += file.definitions[name].names
    return {name: definition for name, definition in file.definitions.items() if name in found}


def _joined(definitions: list[_Definition]) -> str:
    text, last = "", None
    for one in definitions:
        if last is not None:
            adjacent = last.place[1] + 1 == one.place[0]
            text += "\n\n\n" if one.block or last.block else "\n" if adjacent else "\n\n"
        text, last = text + one.text, one
    return text


@cache
def _file(module: str) -> _File:
    source = inspect.getsource(sys.modules[module])
    tree, lines = ast.parse(source), source.splitlines()
    definitions: dict[str, _Definition] = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        names = _defined(node)
        if not names:
            continue
        block = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        while first > 1 and lines[first - 2].startswith("#"):
            first -= 1
        told = not block and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        last = (following if told and following else node).end_lineno or node.lineno
        text = _PRAGMA.sub("", "\n".join(lines[first - 1 : last]))
        definition = _Definition(text, frozenset(_names(node)), block, (first, last))
        definitions |= dict.fromkeys(names, definition)
    return _File(definitions, _imports(tree))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Imports of a file by the name that they give: the module, and the member (with its alias) or ``""``."""
    found = {}
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or getattr(node, "module", "") == "__future__":
            continue
        for alias in node.names:
            shown = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            name = alias.asname or alias.name.partition(".")[0]
            found[name] = (node.module or "", shown) if isinstance(node, ast.ImportFrom) else (shown, "")
    return found


def _import_lines(needed: list[tuple[str, str]]) -> list[str]:
    lines = [f"import {module}" for module, member in needed if not member]
    members: dict[str, list[str]] = {}
    for module, member in needed:
        if member:
            members.setdefault(module, []).append(member)
    for module, names in members.items():
        line = f"from {module} import {', '.join(names)}"
        lines.append(
            Text("(", tuple(map(Text, names)), ")").laid_out(0, f"from {module} import ") if _long(line) else line
        )
    return lines


def _long(line: str) -> bool:
    return len(wrapped(line.split(), "", "")) > 1


def _member_order(one: tuple[str, str]) -> tuple[Any, ...]:
    """Sort members as linters do: constants, classes, functions."""
    module, member = one
    kind = 0 if member.isupper() and len(member) > 1 else 1 if member[:1].isupper() else 2
    return module.lower(), kind, member


def _root(one: tuple[str, str]) -> str:
    return one[0].partition(".")[0].partition(" ")[0]
