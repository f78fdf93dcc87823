"""Start parameters again, as a plan of literal numbers says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize


@torch.no_grad()
def initialise(model: nn.Module, plan: Mapping[Any, tuple[Any, ...]]) -> nn.Module:
    """Start the parameters that a plan names; all others keep what they were built with.

    The plan maps the name of a parameter, or a tuple of names, to what is drawn and its number::

        ("orthogonal", std)  ("delta_orthogonal", std)  ("normal", std)  ("uniform", bound)
        ("constant", value)  ("scaled", factor)  ("identity", factor)

    "fc{1..3}.bias" stands for three names, "fc{0..4..2}.bias" for every second one. "scaled"
    multiplies what is there. A third item says how many matrices are stacked in the rows of a
    weight, each to be drawn alone: 4 for the gates of an LSTM.
    """
    for names, (draw, number, *stacked) in plan.items():
        for name in expand_names(*((names,) if isinstance(names, str) else names)):
            path, _, short = name.rpartition(".")
            module = model.get_submodule(path)
            old = getattr(module, short)
            new = old.detach().to(torch.promote_types(old.dtype, torch.float32), copy=True)
            for part in new.chunk(stacked[0] if stacked else 1):
                draw_entries(part, draw, number)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                new[module.padding_idx] = old[module.padding_idx]
            if parametrize.is_parametrized(module, short):
                setattr(module, short, new.to(old.dtype))  # through its right inverse
            else:
                old.copy_(new)
    return model


def expand_names(*texts: str) -> list[str]:
    """Write names with ranges out: "fc{1..3}.bias" is fc1.bias, fc2.bias, fc3.bias."""
    names = []
    for text in texts:
        found = re.search(r"\{(\d+)\.\.(\d+)(?:\.\.(\d+))?\}", text)
        if found:
            numbers = range(int(found[1]), int(found[2]) + 1, int(found[3] or 1))
            before, after = text[: found.start()], text[found.end() :]
            names += expand_names(*(f"{before}{number}{after}" for number in numbers))
        else:
            names.append(text)
    return names


def draw_entries(weight: torch.Tensor, draw: str, number: float) -> None:
    """Fill a tensor in place, from torch's global generator."""
    if draw == "orthogonal":  # all singular values are equal (Saxe et al. 2014)
        rows, columns = weight.shape[0], weight[0].numel()
        nn.init.orthogonal_(weight, gain=number * math.sqrt(max(rows, columns)))
    elif draw == "delta_orthogonal":  # a matrix at the centre of a kernel (Xiao et al. 2018)
        nn.init.zeros_(weight)
        centre = weight
        for size in reversed(weight.shape[2:]):
            centre = centre[..., size // 2]
        nn.init.orthogonal_(centre, gain=number * math.sqrt(max(centre.shape)))
    elif draw == "identity":  # of a state, it is kept as it is (Le et al. 2015)
        nn.init.eye_(weight)
        weight.mul_(number)
    elif draw == "normal":
        nn.init.normal_(weight, std=number)
    elif draw == "uniform":
        nn.init.uniform_(weight, -number, number)
    elif draw == "constant":
        nn.init.constant_(weight, number)
    elif draw == "scaled":
        weight.mul_(number)
    else:
        raise ValueError(
            f"draw: expected one that initialise lists, such as 'normal', got {draw!r}"
        )
