"""Move norms from behind residual sums to before the branches; lower an epsilon that drowns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn


def norms_before_branches(
    model: nn.Module, branches: Mapping[str, Iterable[str]], last: str
) -> nn.Module:
    """Normalise what the branches are given, and no longer the sums behind them.

    The mapping has, for each norm, the modules that its branch begins with. The norm of the last
    sum keeps its place too, as `after` of that norm: a stream that is only added to grows.
    """
    final: Any = model.get_submodule(last)
    like = {"device": final.weight.device, "dtype": final.weight.dtype}
    final.add_module("after", nn.LayerNorm(final.normalized_shape, final.eps, **like))
    final.after.train(final.training)
    for name, starts in branches.items():
        norm = model.get_submodule(name)
        norm.register_forward_hook(leave_sum, prepend=True)
        for start in starts:
            hook = partial(norm_given, norm=[norm])  # in a list, it is no submodule of another
            model.get_submodule(start).register_forward_pre_hook(hook, with_kwargs=True)
    return model


def leave_sum(module: Any, args: tuple[Any, ...], output: Any) -> torch.Tensor:
    """Give a sum as it is; behind the last one stands a norm of its own."""
    total: torch.Tensor = args[0]
    return module.after(total) if hasattr(module, "after") else total


def norm_given(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, norm: list[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Exchange the first tensor that a module is given, wherever it stands, for the normed one."""
    given = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
    normed = norm[0].forward(given)  # past the hook that leaves sums alone
    return (
        tuple(normed if x is given else x for x in args),
        {key: normed if x is given else x for key, x in kwargs.items()},
    )


def lower_norm_epsilon(model: nn.Module, names: Iterable[str], *, eps: float) -> nn.Module:
    """Let the named norms add no more than `eps` to the variance that they divide by."""
    for name in names:
        norm: Any = model.get_submodule(name)
        setattr(norm, "variance_epsilon" if hasattr(norm, "variance_epsilon") else "eps", eps)
    return model
