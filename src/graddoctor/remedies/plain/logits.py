"""Give losses that expect logits the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


def loss_on_logits(model: nn.Module, batch: Any, original: Callable[..., Any]) -> Any:
    """Compute a loss with what a softmax or sigmoid was given where it expects just that.

    Better take the softmax or the sigmoid out of the loss yourself, and use `F.cross_entropy` or
    `F.binary_cross_entropy_with_logits`.
    """
    with LogitsMode():
        return original(model, batch)


class LogitsMode(TorchFunctionMode):
    """Undoes a softmax or sigmoid in front of a cross entropy, and one that a logarithm follows."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[torch.Tensor, str, torch.Tensor, int]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, or what it is of the logits."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        given = args[0] if args else kwargs.get("input")
        if not isinstance(given, torch.Tensor):
            return func(*args, **kwargs)
        if id(given) in self.made:
            _, kind, logits, axis = self.made[id(given)]
            twin = function_of_logits(name, kind, axis, logits.ndim)
            if twin is not None:
                kwargs.pop("input", None)
                return twin(logits, *args[1:], **kwargs)
        output = func(*args, **kwargs)
        if name in {"softmax", "sigmoid"}:
            axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) or 0
            self.made[id(output)] = (output, name, given, axis % max(given.ndim, 1))
        return output


def function_of_logits(name: str, kind: str, axis: int, ndim: int) -> Callable[..., Any] | None:
    """Return what a function of a softmax or sigmoid is of the logits; `None`: nothing known."""
    if kind == "sigmoid":
        twins: dict[str, Callable[..., Any]] = {
            "log": F.logsigmoid,
            "binary_cross_entropy": F.binary_cross_entropy_with_logits,
            "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
        }
        return twins.get(name)
    if name in {"cross_entropy", "nll_loss"} and axis == min(1, ndim - 1):
        return F.cross_entropy
    if name == "log":
        return partial(F.log_softmax, dim=axis)
    return F.log_softmax if name == "log_softmax" else None
