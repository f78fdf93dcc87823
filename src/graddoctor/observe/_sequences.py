"""The light reading: the gradient at the inputs x_t of a network with attention, which has no state to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graddoctor.nested import mapped
from graddoctor.observe._lags import cotangent, over_samples, profile
from graddoctor.observe._recorder import tensors_in
from graddoctor.observe.readings import TemporalReading

_SEQUENCE = 3  # axes of a batch of sequences: samples, time, features, in this order or with time first
_SOFTMAX = (torch.softmax, functional.softmax, Tensor.softmax)


class Attention:
    """Watches for attention in a forward pass.

    Attributes
    ----------
    steps
        Length of the longest sequence whose positions look at each other; 0 without attention.
    embedded
        What embeddings made, with the module each time.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.embedded: list[tuple[str, Tensor]] = []

    def see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, module: str) -> None:
        """Take note of one call of a function of torch."""
        given = {**dict(zip(("query", "key"), args, strict=False)), **kwargs}
        if func is functional.embedding:
            self.embedded.append((module, result))
        elif func is functional.scaled_dot_product_attention:
            self._looks(given["query"].shape[-2], given["key"].shape[-2])
        elif func is functional.multi_head_attention_forward:
            self._looks(given["query"].shape[0], given["key"].shape[0])
        elif func in _SOFTMAX and result.dim() >= _SEQUENCE:
            self._looks(result.shape[-2], result.shape[-1])

    def _looks(self, queries: int, keys: int) -> None:
        if queries == keys > 1:
            self.steps = max(self.steps, queries)

    def inputs(self) -> tuple[str, Tensor] | None:
        """The embedded sequence, with gradient: the largest where several are added, as tokens and positions are."""
        found = [(name, one) for name, one in self.embedded if one.requires_grad and _time(one, self.steps) is not None]
        return max(found, key=lambda pair: pair[1].numel(), default=None)


@contextmanager
def with_gradient(model: nn.Module, steps: int) -> Iterator[list[Tensor]]:
    """Hand the model a copy that takes gradient in place of the first floating sequence; it is put into the list."""
    taken: list[Tensor] = []

    def exchanged(x: Tensor) -> Tensor:
        if taken or not x.is_floating_point() or _time(x, steps) is None:
            return x
        taken.append(x.detach().clone().requires_grad_())
        return taken[0]

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        del module
        return mapped(exchanged, args), mapped(exchanged, kwargs)

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield taken
    finally:
        handle.remove()


def _time(x: Tensor, steps: int) -> int | None:
    """Which of the first two axes of a sequence is time; the second where both may be."""
    if x.dim() != _SEQUENCE:
        return None
    return next((axis for axis in (1, 0) if x.shape[axis] == steps), None)


def reading(module: str, x: Tensor, steps: int, output: Any, value: Tensor) -> TemporalReading | None:
    """Read the gradient at inputs ``x``, of the loss and of a cotangent at the last position of the output.

    ``None`` where the output does not depend on them. An output without a time axis is taken as a whole.
    """
    axis = _time(x, steps)
    samples = x.shape[1 - axis] if axis is not None else 0
    entering = _last(output, steps, samples)
    if axis is None or entering is None:
        return None
    end, sent, whole = entering
    (found,) = torch.autograd.grad(end, x, sent, retain_graph=True, allow_unused=True)
    if found is None:
        return None
    norms = torch.linalg.vector_norm(found.movedim(axis, 0), dim=-1, dtype=torch.float64).flip(0).cpu().log10()
    lengths = torch.full((samples,), steps, device="cpu")
    lag = profile(over_samples(torch.where(norms == torch.inf, torch.nan, norms), lengths))
    return TemporalReading(
        name=module or "input",
        module=module,
        modules=(module,),
        kind="attention",
        layer=0,
        reverse=False,
        steps=steps,
        source="input",
        loss_gradient=_of_loss(value, x, axis),
        lag_gradient=lag.values,
        decades=lag.decades,
        decades_per_step=lag.per_step,
        horizon_1=lag.horizon_1,
        horizon_3=lag.horizon_3,
        cut=lag.cut,
        saturation=(math.nan,) * steps,
        notes=("the output has no time axis: the cotangent enters all of it at once",) if whole else (),
    )


def _of_loss(value: Tensor, x: Tensor, axis: int) -> tuple[float, ...]:
    if value.grad_fn is None:
        return (0.0,) * x.shape[axis]
    (found,) = torch.autograd.grad(value, x, retain_graph=True, allow_unused=True)
    if found is None:
        return (0.0,) * x.shape[axis]
    norms: list[float] = torch.linalg.vector_norm(
        found.movedim(axis, 0).flatten(1), dim=1, dtype=torch.float64
    ).tolist()
    return tuple(norms)


def _last(output: Any, steps: int, samples: int) -> tuple[Tensor, Tensor, bool] | None:
    """The output, a cotangent that is zero but at its last position, and whether it is everywhere: no time axis."""
    tensors = [one for _, one in tensors_in(output) if one.requires_grad and one.dim() > 0]
    for one in tensors:
        axis = _time(one, steps)
        rows = one.dim() == _SEQUENCE - 1 and len(one) == steps * samples
        if axis is None and not rows:
            continue
        sent = torch.zeros_like(one)
        by_step = sent.view(samples, steps, -1).transpose(0, 1) if axis is None else sent.movedim(axis, 0)
        by_step[-1] = cotangent(by_step[-1])
        return one, sent, False
    return (tensors[0], cotangent(tensors[0]), True) if tensors else None
