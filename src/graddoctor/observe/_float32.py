"""Products of float32 in full precision on a GPU, for as long as a look takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Set TF32 aside: it keeps ten bits of a factor, cuDNN's kernels use it by default and matrix products do not.

    Without it a kernel and the operations that stand in for it agree to seven digits, with it to two or three. Where
    precision was set operation by operation (``fp32_precision``) torch refuses this switch, and all is left as it is.
    """
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    with ExitStack() as after:
        for place in places:
            with suppress(RuntimeError):
                if place.allow_tf32:
                    after.callback(setattr, place, "allow_tf32", True)
                    place.allow_tf32 = False
        yield
