"""The user's own file, with the parts of its recipe that a treatment changes wrapped in the functions of its source."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from pathlib import Path

from graddoctor.recipe import Recipe
from graddoctor.remedies.constructor import constructor
from graddoctor.remedies.edit import Edit, Part, by_part
from graddoctor.remedies.remedy import Remedy
from graddoctor.train import takes

_PACKAGE = "graddoctor"


def diff_of(file: Path, recipe: Recipe, remedies: Sequence[Remedy], module: str = "treated") -> str | None:
    """Return the unified diff that treats a recipe where it stands; ``None`` where that cannot be written.

    Parameters
    ----------
    file
        What `recipe` was loaded from.
    module
        Name of the file, next to it, that the source of the remedies is written to.
    """
    after = patched(file, recipe, remedies, module)
    if after is None:
        return None
    before = _read(file).splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after.splitlines(keepends=True), file.name, file.name))


def patched(file: Path, recipe: Recipe, remedies: Sequence[Remedy], module: str = "treated") -> str | None:
    """Return a file's text with its one ``Recipe(...)`` treated; ``None`` where there is no such one.

    Only the keywords of parts that change are touched, and an import is added. It cannot be done where the call unpacks
    its keywords, or where the recipe is changed after it was made.
    """
    parts = by_part(edit for remedy in remedies for edit in remedy.edits)
    try:
        text = _read(file)
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return None
    calls = _recipe_calls(tree)
    names = [keyword.arg for call in calls for keyword in call.keywords]
    if len(calls) != 1 or None in names or calls[0].args or not module.isidentifier() or _changed_later(tree):
        return None
    patch = _Patch(text, tree, calls[0], module)
    for part in parts:
        _WRAPPERS.get(part, _replace)(patch, recipe, parts, part)
    return patch.text()


def _recipe_calls(tree: ast.Module) -> list[ast.Call]:
    """Calls of graddoctor's own Recipe, by whatever name it was imported."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _PACKAGE:
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "Recipe"}
        elif isinstance(node, ast.Import):
            packages = [alias.asname or alias.name for alias in node.names if alias.name.partition(".")[0] == _PACKAGE]
            names |= {f"{package}.Recipe" for package in packages}
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) in names]


def _changed_later(tree: ast.Module) -> bool:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(f, ast.Attribute) and f.attr == "with_" for f in calls)


class _Patch:
    """Changes of a text, by positions in its bytes."""

    def __init__(self, text: str, tree: ast.Module, call: ast.Call, module: str) -> None:
        self.data, self.tree, self.call = text.encode(), tree, call
        lines = self.data.splitlines(keepends=True)
        self.starts = [sum(map(len, lines[:k])) for k in range(len(lines) + 1)]
        self.newline = "\r\n" if b"\r\n" in self.data else "\n"
        self.bound = _bound(tree)
        self.module = module if module not in self.bound else f"{module}_module"
        self.imports = [f"import {module}" + (f" as {self.module}" if self.module != module else "")]
        self.changes: list[tuple[int, int, str]] = []
        self.added: list[str] = []

    def value(self, name: str) -> ast.expr | None:
        """Return what a keyword of the call has."""
        return next((keyword.value for keyword in self.call.keywords if keyword.arg == name), None)

    def source(self, node: ast.expr) -> str:
        """Return its text."""
        return self.data[slice(*self._span(node))].decode()

    def halves(self, node: ast.Lambda) -> tuple[str, str]:
        """Return the text of a lambda before and after its colon."""
        begin, end = self._span(node)
        middle = self._span(node.body)[0]
        head, _, opened = self.data[begin:middle].decode().rpartition(":")
        return head, (opened + self.data[middle:end].decode()).strip()

    def once(self, node: ast.expr) -> bool:
        """Whether an expression gives the same whenever it is looked at: a name that is bound once, or its member."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        return isinstance(root, ast.Name) and self.bound.get(root.id, 0) <= 1

    def replace(self, name: str, new: str) -> None:
        """Give a keyword another value; one that is not there is added."""
        old = self.value(name)
        if old is not None:
            self.changes.append((*self._span(old), new))
        else:
            self.added.append(f"{name}={new}")

    def needs(self, module: str) -> None:
        """Import a module of the standard library, unless the file does."""
        line = f"import {module}"
        imported = [a.name for n in self.tree.body if isinstance(n, ast.Import) for a in n.names if not a.asname]
        if module not in imported and line not in self.imports:
            self.imports.insert(0, line)

    def text(self) -> str:
        """Return the text with all changes made."""
        changes = [*self.changes, self._import(), *([self._more()] if self.added else [])]
        data = self.data
        for begin, end, new in sorted(changes, reverse=True):
            data = data[:begin] + new.encode() + data[end:]
        return data.decode()

    def _span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101, PT018 - parsed from text
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _import(self) -> tuple[int, int, str]:
        """After the imports at the top, or after what must come first."""
        body = self.tree.body
        lines = [
            n.end_lineno or 0
            for n in body
            if isinstance(n, (ast.Import, ast.ImportFrom)) and n.lineno < self.call.lineno
        ]
        if not lines and ast.get_docstring(self.tree):
            lines = [body[0].end_lineno or 0]
        place = self.starts[max(lines, default=0)]
        text = "".join(line + self.newline for line in self.imports)
        begun = self.data[:place].endswith(b"\n") or not place
        return place, place, text if begun else self.newline + text

    def _more(self) -> tuple[int, int, str]:
        """Keywords after the last one, each on a line of its own where the last one is."""
        last = self.call.keywords[-1]
        end = self._span(last)[1]
        begin = self._span(last)[0]
        alone = not self.data[self.starts[last.lineno - 1] : begin].strip()  # on a line of its own
        between = f",{self.newline}{' ' * last.col_offset}" if alone else ", "
        return end, end, "".join(between + one for one in self.added)


def _model(patch: _Patch, recipe: Recipe, parts: dict[Part, list[Edit]], part: Part) -> None:
    del parts
    old = patch.value(part)
    assert old is not None  # noqa: S101 - a recipe has a model
    text = patch.source(old)
    seeded = takes(recipe.model, "seed")
    given, handed = ("seed", "seed=seed") if seeded else ("", "")
    treat = f"{patch.module}.treat_model"
    if type(recipe.model).__name__ == "_Copies":
        patch.needs("copy")
        built, kept = ("copy.deepcopy({})", "network")
    else:
        built, kept = (f"{{}}({handed})", "build")
    if isinstance(old, ast.Lambda):
        begin, body = patch.halves(old)
        patch.replace(part, f"{begin}: {treat}({body})")
    elif patch.once(old):
        patch.replace(part, f"lambda{' ' * bool(given)}{given}: {treat}({built.format(text)})")
    else:
        given = ", ".join(filter(None, (given, f"{kept}={text}")))
        patch.replace(part, f"lambda {given}: {treat}({built.format(kept)})")


def _optimizer(patch: _Patch, recipe: Recipe, parts: dict[Part, list[Edit]], part: Part) -> None:
    if constructor(recipe, parts.get("model", []), parts[part]).expression is not None:
        patch.replace(part, f"{patch.module}.make_optimizer")
    else:
        _partial(patch, part, "make_optimizer", "original=")


def _loss(patch: _Patch, recipe: Recipe, parts: dict[Part, list[Edit]], part: Part) -> None:
    del recipe, parts
    _partial(patch, part, "loss", "original=")


def _batches(patch: _Patch, recipe: Recipe, parts: dict[Part, list[Edit]], part: Part) -> None:
    del recipe, parts
    _partial(patch, part, "batches", "")


def _partial(patch: _Patch, part: Part, function: str, keyword: str) -> None:
    old = patch.value(part)
    assert old is not None  # noqa: S101 - a recipe has them
    patch.needs("functools")
    patch.replace(part, f"functools.partial({patch.module}.{function}, {keyword}{patch.source(old)})")


def _replace(patch: _Patch, recipe: Recipe, parts: dict[Part, list[Edit]], part: Part) -> None:
    left_out = part != "epochs" and parts[part][-1].function is None
    name = {"scheduler": "make_scheduler", "epochs": "EPOCHS"}.get(part, part)
    patch.replace(part, "None" if left_out else f"{patch.module}.{name}")
    if part == "scheduler" and recipe.scheduler_every == "epoch" and not left_out:
        patch.replace("scheduler_every", '"batch"')


_WRAPPERS = {"model": _model, "optimizer": _optimizer, "loss": _loss, "batches": _batches}


def _read(file: Path) -> str:
    return file.read_bytes().decode()


def _bound(tree: ast.Module) -> dict[str, int]:
    """How often each name is bound in a file, anywhere."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.append(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.arg):
            found.append(node.arg)
        elif isinstance(node, ast.alias):
            found.append((node.asname or node.name).partition(".")[0])
    return {name: found.count(name) for name in found}
