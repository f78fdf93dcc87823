"""What a forward pass does with each weight: which activation follows it, and whether it ends a residual branch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graddoctor.randomness import kept_random_state
from graddoctor.recipe import Recipe
from graddoctor.remedies.functions import (
    ACTIVATIONS,
    ADDITIONS,
    LINEAR,
    NORMALIZATIONS,
    RESHAPING,
    first_tensor,
    in_place,
    name_of,
    tensors_in,
    with_first,
    wrap_forward,
)
from graddoctor.train import BatchSource, loss_of


@dataclass
class WeightRole:
    """The part that one weight plays in the forward pass.

    ``follower`` is the nonlinearity that its product runs into, ``"normalization"``, or ``""`` where there is none;
    ``branch_end`` says that the product is added to a stream without a nonlinearity in between. ``rms`` is the root mean
    square of its product, ``fan_in`` the number of inputs of one of its units.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    std: float
    rms: float
    follower: str = ""
    branch_end: bool = False


@dataclass(frozen=True)
class OutputActivation:
    """A nonlinearity that makes the network's output: ``apply`` runs it and the reshapes behind it on raw values."""

    kind: str
    apply: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    raw: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    shape: tuple[int, ...]
    index: int


@dataclass(frozen=True)
class Survey:
    """One forward pass, read call by call; functional code counts like modules."""

    weights: dict[str, WeightRole]
    activations: tuple[str, ...]
    output: OutputActivation | None
    branches: int
    normalizations: int

    @property
    def hidden(self) -> tuple[str, ...]:
        """Kinds of the nonlinearities that do not make the output."""
        skip = self.output.index if self.output else -1
        return tuple(kind for k, kind in enumerate(self.activations) if k != skip)


class _Reader(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.sources: dict[int, tuple[str, bool]] = {}  # views of a parameter: its name, and whether it is transposed
        self.open: dict[int, tuple[str, ...]] = {}  # weights whose product has met no nonlinearity yet
        self.raw: dict[int, tuple[torch.Tensor, Any, Any]] = {}
        self.made: dict[int, tuple[str, int]] = {}
        self.weights: dict[str, WeightRole] = {}
        self.kept: list[Any] = []  # keeps ids from being used again
        self.activations: list[str] = []
        self.branches = 0
        self.normalizations = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        first = first_tensor(args, kwargs)
        before = first.clone() if name in ACTIVATIONS and first is not None and in_place(func, kwargs, args) else first
        result = func(*args, **kwargs)
        out = next(iter(tensors_in(result)), None)
        if out is None or not out.is_floating_point():
            return result
        self.kept.append((result, args, kwargs))
        if first is not None and name in {"t", "transpose", "permute", "mT", "T"}:
            self._view(first, out)
        if name in LINEAR:
            self._linear(name, out, args, kwargs)
        elif name in ACTIVATIONS and before is not None:
            self._activation(func, name, before, out, args, kwargs)
        else:
            self._pass_on(func, name, first, out, args, kwargs)
        return result

    def _view(self, first: torch.Tensor, out: torch.Tensor) -> None:
        if id(first) in self.names:
            self.sources[id(out)] = (self.names[id(first)], True)

    def _linear(self, name: str, out: torch.Tensor, args: tuple[Any, ...], kwargs: Any) -> None:
        used = []
        for tensor in tensors_in([args, kwargs]):
            weight, transposed = self.sources.get(id(tensor), (self.names.get(id(tensor), ""), False))
            if weight and tensor.ndim > 1:
                product = name in {"matmul", "mm", "bmm", "addmm", "__matmul__", "__rmatmul__", "einsum"}
                fan_in = tensor.shape[-2] if product or transposed else math.prod(tensor.shape[1:])
                self._meet(weight, tensor, int(fan_in), out)
                used.append(weight)
        self.open[id(out)] = tuple(used)

    def _meet(self, weight: str, tensor: torch.Tensor, fan_in: int, out: torch.Tensor) -> None:
        if weight not in self.weights:
            with torch.no_grad():
                std = float(tensor.float().std()) if tensor.numel() > 1 else 0.0
                rms = float(out.float().square().mean().sqrt())
            self.weights[weight] = WeightRole(weight, tuple(tensor.shape), fan_in, std, rms)

    def _activation(
        self,
        func: Callable[..., Any],
        name: str,
        before: torch.Tensor,
        out: torch.Tensor,
        args: tuple[Any, ...],
        kwargs: Any,
    ) -> None:
        for weight in self.open.get(id(args[0] if args else kwargs.get("input")), ()):
            self.weights[weight].follower = self.weights[weight].follower or name
        self.open[id(out)] = ()
        self.made[id(out)] = (name, len(self.activations))
        self.activations.append(name)

        def apply(raw: torch.Tensor) -> torch.Tensor:
            new_args, new_kwargs = with_first(raw, args, {k: v for k, v in kwargs.items() if k != "inplace"})
            return func(*new_args, **new_kwargs) if not in_place(func, {}, args) else func(raw.clone(), *args[1:])

        self.raw[id(out)] = (before, apply, lambda raw: raw)

    def _pass_on(
        self,
        func: Callable[..., Any],
        name: str,
        first: torch.Tensor | None,
        out: torch.Tensor,
        args: tuple[Any, ...],
        kwargs: Any,
    ) -> None:
        tensors = tensors_in([args, kwargs])
        opened = [self.open[id(t)] for t in tensors if self.open.get(id(t))]
        tags = tuple(dict.fromkeys(tag for part in opened for tag in part))
        if name in NORMALIZATIONS:
            self.normalizations += 1
            for weight in tags:
                self.weights[weight].follower = self.weights[weight].follower or "normalization"
            tags = ()
        streams = [t for t in tensors if t.shape == out.shape and t.requires_grad and id(t) not in self.names]
        if name in ADDITIONS and len(streams) > 1:
            self._addition(streams)
            tags = ()
        self.open[id(out)] = tags
        if name in RESHAPING and first is not None and id(first) in self.raw:
            before, apply, raw = self.raw[id(first)]
            self.made[id(out)] = self.made[id(first)]

            def again(value: torch.Tensor) -> Any:
                new_args, new_kwargs = with_first(value, args, kwargs)
                return func(*new_args, **new_kwargs)

            self.raw[id(out)] = (before, lambda v: again(apply(v)), lambda v: again(raw(v)))

    def _addition(self, streams: list[torch.Tensor]) -> None:
        ends = [self.open.get(id(t), ()) for t in streams]
        if not any(ends):
            return
        self.branches += 1
        latest = max((tag for part in ends for tag in part), key=lambda tag: list(self.weights).index(tag))
        self.weights[latest].branch_end = True

    def survey(self, output: Any) -> Survey:
        activation = None
        if isinstance(output, torch.Tensor) and id(output) in self.raw:
            before, apply, raw = self.raw[id(output)]
            kind, index = self.made[id(output)]
            activation = OutputActivation(kind, apply, raw, tuple(before.shape), index)
        return Survey(dict(self.weights), tuple(self.activations), activation, self.branches, self.normalizations)


def survey(recipe: Recipe, model: nn.Module, batch: Any = None) -> Survey:
    """Read one forward pass of a model, call by call, leaving model and random state as they were."""
    batch = BatchSource(recipe).first(1)[0] if batch is None else batch
    reader, outputs = _Reader(model), []

    def wrapper(forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with reader:
            output = forward(*args, **kwargs)
        outputs.append(output)
        return output

    buffers = [(b, b.clone()) for b in model.buffers()]
    own = model.__dict__.get("forward")
    wrap_forward(model, wrapper)
    try:
        with kept_random_state():
            loss_of(recipe, model, batch)
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.forward = own
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return reader.survey(outputs[0] if outputs else None)
