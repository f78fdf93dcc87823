"""What it takes to train elsewhere: a recipe as bytes, and the settings of torch that change numbers."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import cloudpickle
import torch

from graddoctor.errors import TrialsError
from graddoctor.prove.task import Setting
from graddoctor.tracebacks import first_line, is_users

_FLAGS = (
    *((torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
    (torch.backends.mkldnn, "enabled"),
)


def packed(thing: Any, *, far: bool = False) -> bytes:
    """Pickle what may hold the user's functions.

    Those of a module that another process cannot import travel by value; with ``far``, for other machines, all of the
    user's do, unless what they name cannot be pickled.
    """
    if far:
        try:
            with _by_value(_users_modules()):
                return _dumped(thing)
        except Exception:  # noqa: BLE001 - their modules may be there, too
            return packed(thing)
    with _by_value([module for module in _users_modules() if not _importable(module)]):
        return _dumped(thing)


def unpacked(data: bytes) -> Any:
    """Return what was packed."""
    return cloudpickle.loads(data)


def check_travels(setting: Setting) -> None:
    """See that a recipe can be sent to other processes.

    Raises
    ------
    TrialsError
        It holds what cannot be pickled.
    """
    try:
        unpacked(packed(setting))
    except Exception as error:
        raise TrialsError(
            f"the recipe cannot be sent to other processes ({first_line(error)}): "
            "make what it holds inside its functions, or train without workers"
        ) from error


@dataclass(frozen=True)
class Numerics:
    """Settings of torch that a user's script may have made, and without which the numbers are others."""

    dtype: torch.dtype
    device: torch.device
    matmul: str
    deterministic: tuple[bool, bool]
    backends: tuple[bool, ...]

    @classmethod
    def now(cls) -> Numerics:
        """Read them off this process."""
        return cls(
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.get_float32_matmul_precision(),
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
            tuple(bool(getattr(backend, name)) for backend, name in _FLAGS),
        )

    def apply(self) -> None:
        """Make them in this process."""
        torch.set_default_dtype(self.dtype)
        if self.device != torch.get_default_device():
            torch.set_default_device(self.device)
        torch.set_float32_matmul_precision(self.matmul)
        torch.use_deterministic_algorithms(self.deterministic[0], warn_only=self.deterministic[1])
        for (backend, name), value in zip(_FLAGS, self.backends, strict=True):
            setattr(backend, name, value)


def _dumped(thing: Any) -> bytes:
    data: bytes = cloudpickle.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)
    return data


def _users_modules() -> list[ModuleType]:
    modules = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(module, ModuleType) and isinstance(file, str) and is_users(file):
            modules.append(module)
    return modules


def _importable(module: ModuleType) -> bool:
    """Whether a process with the same ``sys.path`` gets this very module by its name."""
    top = sys.modules.get(module.__name__.partition(".")[0])
    if top is None:
        return False
    found = PathFinder.find_spec(top.__name__, sys.path)
    return found is not None and found.origin == getattr(top, "__file__", None)


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    known = cloudpickle.list_registry_pickle_by_value()
    new = [m for m in modules if m.__name__ not in known and sys.modules.get(m.__name__) is m]
    for module in new:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in new:
            cloudpickle.unregister_pickle_by_value(module)
