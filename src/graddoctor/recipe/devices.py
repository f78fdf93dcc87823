"""Whether a device that was asked for is there, said before anything is trained."""

from __future__ import annotations

import torch

from graddoctor.errors import RecipeError


def require_device(device: str | torch.device) -> torch.device:
    """Return the device, or say that this machine does not have it.

    Raises
    ------
    RecipeError
        The name is none that torch knows, or there is no such device here.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise RecipeError(f"expected a device such as cpu, cuda or cuda:1, got {device!r}") from error
    if wanted.type == "cpu":
        return wanted
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None or there.type != wanted.type:
        usable = "cpu" if there is None else f"cpu or {there.type}"
        raise RecipeError(f"device {device} was asked for, and torch {torch.__version__} finds none here: use {usable}")
    count = torch.accelerator.device_count()
    if wanted.index is not None and wanted.index >= count:
        raise RecipeError(f"device {device} was asked for, and there are {count} here: {wanted.type}:0 is the first")
    return wanted
