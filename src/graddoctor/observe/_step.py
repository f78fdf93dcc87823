"""What every look at a step needs: modules that run eagerly, a loss that is one number, batches left as they are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from graddoctor.errors import RecipeError
from graddoctor.observe._guard import Guard


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules and functions eagerly: compiled code shows neither modules nor operations."""
    if "torch._dynamo" not in sys.modules:  # nothing can have been compiled
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", message=".*global hooks on modules.*")
        yield


def expect_one_number(value: Any) -> None:
    """Raise `RecipeError` unless a loss is a tensor with one element."""
    if not isinstance(value, Tensor):
        raise RecipeError(f"the loss must be a tensor, got {type(value).__name__}: return it before .item()")
    if value.numel() != 1:
        raise RecipeError(f"the loss must be one number, got shape {tuple(value.shape)}: take its mean or sum")


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its hook for subclasses untyped
    """Tells a guard of every operation that is about to write to a tensor, and does nothing else."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._guard = guard

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare two seconds, as in the recorder of the probe."""
        return False

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func._schema.is_mutable:  # noqa: SLF001 - every operator's public description hides behind this name
            for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - as above
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written = args[place] if place < len(args) else kwargs.get(argument.name)
                    for tensor in written if isinstance(written, (tuple, list)) else (written,):
                        if isinstance(tensor, Tensor):
                            self._guard.before_write(tensor)
        return func(*args, **kwargs)
