"""Find the recipe in a user's file or module; whatever is wrong with it is one clear line."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from graddoctor.errors import RecipeError, nearest
from graddoctor.recipe.definition import Recipe
from graddoctor.tracebacks import locate, shorten

_RETURNS_RECIPE = re.compile(r"(\w+\.)*Recipe")


def load_recipe(target: str | os.PathLike[str], arguments: Sequence[str] = ()) -> Recipe:
    """Load a recipe from a Python file or an importable module.

    The code runs as an import does: not as ``__main__``, with its own folder importable meanwhile, and with nothing but
    the file and ``arguments`` in ``sys.argv``.

    Parameters
    ----------
    target
        ``"file.py"``, ``"file.py:name"`` or ``"package.module:name"``; the name is a :class:`Recipe` or a function
        without required arguments that returns one. Without a name the file must leave no doubt: a variable ``recipe``,
        or else a single recipe, or else a single function annotated ``-> Recipe``. A recipe without a name of its own
        is called after its target.
    arguments
        What the code finds in ``sys.argv[1:]``.

    Raises
    ------
    RecipeError
        There is no such file, module or name, the code does not run, or what it gives is no recipe or one of several.
    """
    target = os.fspath(target)
    place, name = _split(target)
    with importable(target), _argv(place, arguments):
        module = _run_file(Path(place)) if _is_file(place) else _import_module(place)
        found = _named(module, name, place) if name else _only_recipe(module, place)
        recipe = _as_recipe(found, f"{place}:{name}" if name else place)
    return recipe if recipe.name else recipe.with_(name=f"{Path(place).name}:{name}" if name else Path(place).name)


@contextlib.contextmanager
def importable(target: str) -> Iterator[None]:
    """Let the code of a target import its neighbours, at loading and later; ``sys.path`` is put back afterwards.

    A file finds the modules of its own folder, as it would under ``python file.py``; a module is also looked for in the
    working directory.
    """
    place, _ = _split(target)
    folder = Path(place).resolve().parent if _is_file(place) else Path.cwd()
    before = list(sys.path)
    _forget_strangers(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _split(target: str) -> tuple[str, str]:
    """Cut ``place:name`` apart; the colon of a Windows drive stays with its path."""
    place, colon, name = target.rpartition(":")
    if not colon or "/" in name or "\\" in name:
        return target, ""
    return place, name


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place or (place != "" and Path(place).exists())


@contextlib.contextmanager
def _argv(place: str, arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [place, *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _forget_strangers(folder: Path) -> None:
    """Drop modules that an earlier target's folder left behind under the name of a neighbour of this one.

    Only that folder can have provided them: they lie elsewhere, and nothing on ``sys.path`` gives them.
    """
    for neighbour in folder.glob("*.py"):
        loaded = getattr(sys.modules.get(neighbour.stem), "__file__", None)
        if loaded is None or Path(loaded) == neighbour:
            continue
        known = PathFinder.find_spec(neighbour.stem, sys.path)
        if known is None or known.origin != loaded:
            del sys.modules[neighbour.stem]


def _run_file(path: Path) -> ModuleType:
    code = _compile(path)
    # A name that no import can collide with; worker processes cannot import it, so its functions travel by value.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module = ModuleType(f"{path.stem}_{digest}", code.co_consts[0] if isinstance(code.co_consts[0], str) else None)
    module.__file__ = str(path.resolve())
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    with _users_errors(f"{shorten(path)} raises on import"):
        exec(code, module.__dict__)  # noqa: S102 - to run the user's own file is what was asked for
    cloudpickle.register_pickle_by_value(module)
    return module


def _compile(path: Path) -> Any:
    shown = shorten(path)
    if not path.exists():
        raise RecipeError(f"no file {shown}: {nearest(path.name, _python_files(path.parent), 'give a Python file')}")
    if path.suffix != ".py" or not path.is_file():
        raise RecipeError(f"expected a Python file such as train.py, got {shown}")
    try:
        text = importlib.util.decode_source(path.read_bytes())
        return compile(text, str(path.resolve()), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f": `{error.text.strip()}`" if error.text and error.text.strip() else ""
        raise RecipeError(f"{shown}:{error.lineno or 1} is not valid Python: {error.msg}{line}") from error
    except ValueError as error:  # bytes that are no text, or a null byte in it
        raise RecipeError(f"{shown} is not Python source: {error}") from error
    except OSError as error:
        raise RecipeError(f"cannot read {shown}: {error.strerror}") from error


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise RecipeError(f"expected file.py, file.py:name or package.module:name, got {name!r}")
    try:
        with _users_errors(f"module {name} raises on import"):
            return importlib.import_module(name)
    except RecipeError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name and f"{name}.".startswith(f"{missing.name}."):
            raise RecipeError(
                f"no module {missing.name!r}: give a file (train.py) or an importable module"
            ) from missing
        raise


def _named(module: ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            held = vars(found) if hasattr(found, "__dict__") else {}
            names = [key for key, value in held.items() if isinstance(value, Recipe) or inspect.isfunction(value)]
            raise RecipeError(f"{place} has no {name!r}: {nearest(part, names, 'define a Recipe of that name')}")
        found = getattr(found, part)
    return found


def _only_recipe(module: ModuleType, place: str) -> Any:
    """Find the recipe that a target without a name can only mean."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    if isinstance(own.get("recipe"), Recipe) or _is_own_function(own.get("recipe"), module):
        return own["recipe"]
    recipes = {name: value for name, value in own.items() if isinstance(value, Recipe)}
    makers = {name: value for name, value in own.items() if _returns_recipe(value, module)}
    choice = recipes or makers
    if len({id(value) for value in choice.values()}) == 1:
        return next(iter(choice.values()))
    if choice:
        listed = ", ".join(f"{place}:{name}" for name in choice)
        raise RecipeError(f"{place} holds several recipes, say which one: {listed}")
    raise RecipeError(
        f"{place} holds no recipe: define `recipe = graddoctor.Recipe(...)` or a function `def name() -> Recipe`"
    )


def _returns_recipe(value: Any, module: ModuleType) -> bool:
    if not _is_own_function(value, module):
        return False
    annotation = value.__annotations__.get("return")
    return annotation is Recipe or (isinstance(annotation, str) and bool(_RETURNS_RECIPE.fullmatch(annotation)))


def _is_own_function(value: Any, module: ModuleType) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__


def _as_recipe(found: Any, what: str) -> Recipe:
    if inspect.isroutine(found) or isinstance(found, functools.partial):
        found = _call(found, what)
        what = f"{what}()"
    if not isinstance(found, Recipe):
        raise RecipeError(f"expected {what} to be a graddoctor.Recipe, got {_kind(found)}")
    return found


def _call(maker: Callable[[], Any], what: str) -> Any:
    try:
        inspect.signature(maker).bind()
    except ValueError:
        pass  # a builtin that does not tell its signature: calling it is the only way to know
    except TypeError as error:
        raise RecipeError(f"cannot call {what} without arguments: {error}; give every parameter a default") from error
    with _users_errors(f"{what} fails"):
        return maker()


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r:.60}"


def _python_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")] if folder.is_dir() else []


@contextlib.contextmanager
def _users_errors(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises, ``sys.exit()`` included, into one line that shows the user's own frame."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{what}: {locate(error)}") from error
