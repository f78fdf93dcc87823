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
from graddoctor.remedies.calls import Call, fan_in_of, settings_of
from graddoctor.remedies.functions import (
    ACTIVATIONS,
    ADDITIONS,
    LINEAR,
    MATRIX,
    MIXERS,
    NORMALIZATIONS,
    carries,
    first_tensor,
    in_place,
    name_of,
    tensors_in,
    wrap_forward,
)
from graddoctor.train import BatchSource, loss_of


@dataclass
class WeightRole:
    """The part that one weight plays in the forward pass, at its first use.

    Attributes
    ----------
    shape
        As it is used, which may be transposed.
    fan_in
        Number of products that are summed to one output.
    std
        Standard deviation of its entries.
    rms, input_rms, follower_rms
        Root mean squares of its product (bias included), of what it is multiplied with, and of what meets the
        nonlinearity (``nan``: nothing does).
    follower
        The nonlinearity that its product runs into, ``"normalization"``, or ``""`` where there is none.
    branch_end
        Whether the product is added to a stream without a nonlinearity in between.
    settings
        Numbers that shape the nonlinearity, such as the slope of a leaky ReLU.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    std: float
    rms: float
    input_rms: float
    follower: str = ""
    follower_rms: float = math.nan
    branch_end: bool = False
    settings: tuple[float, ...] = ()

    @property
    def activation(self) -> str:
        """The nonlinearity with its settings: ``"leaky_relu(0.2)"``."""
        return f"{self.follower}({', '.join(f'{x:g}' for x in self.settings)})" if self.settings else self.follower

    @property
    def size(self) -> float:
        """Root mean square of what meets the nonlinearity, or of the product where there is none."""
        return self.rms if math.isnan(self.follower_rms) else self.follower_rms

    @property
    def gain(self) -> float:
        """Factor by which what is multiplied with the weight has grown until there."""
        return self.size / self.input_rms if self.input_rms > 0 else math.nan


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
    """One forward pass, read call by call; functional code counts like modules.

    Attributes
    ----------
    weights
        By parameter name, in the order of their first use.
    activations
        Kinds of the nonlinearities in the order of their calls; ``"attention"`` for a softmax between positions.
    output
        The nonlinearity that makes the output, if one does.
    branches, normalizations, hooks
        How many residual additions, normalizations and gradient hooks there are.
    """

    weights: dict[str, WeightRole]
    activations: tuple[str, ...]
    output: OutputActivation | None
    branches: int
    normalizations: int
    hooks: int = 0

    @property
    def hidden(self) -> tuple[str, ...]:
        """Kinds of the nonlinearities that do not make the output."""
        skip = self.output.index if self.output else -1
        return tuple(kind for k, kind in enumerate(self.activations) if k != skip)


class Reader(TorchFunctionMode):
    """Follows the calls of one forward pass; `read_forward` runs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.hooks = sum(len(p._backward_hooks or ()) for p in model.parameters())  # noqa: SLF001 - no public way to ask
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.sources: dict[int, str] = {}  # views of a parameter
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
        self.hooks += name == "register_hook"
        first = first_tensor(args, kwargs)
        before = first.clone() if name in ACTIVATIONS and first is not None and in_place(func, kwargs, args) else first
        result = func(*args, **kwargs)
        out = next(iter(tensors_in(result)), None)
        if out is None or not out.is_floating_point():
            return result
        self.kept.append((result, args, kwargs))
        call = Call(func, name, args, kwargs, out)
        if first is not None and name in {"t", "transpose", "permute", "mT", "T"}:
            self._view(first, out)
        if name in LINEAR:
            self.linear(call)
        elif name in ACTIVATIONS and before is not None and before.is_floating_point() and not _angles(name, before):
            self.activation(call, before)
        else:
            self.pass_on(call, first)
        return result

    def _view(self, first: torch.Tensor, out: torch.Tensor) -> None:
        if id(first) in self.names:
            self.sources[id(out)] = self.names[id(first)]

    def linear(self, call: Call) -> None:
        """Read a product of which one factor may be a weight."""
        used = []
        tensors = tensors_in([call.args, call.kwargs])
        factors = tensors[1:] if call.name == "addmm" else tensors  # its first is added
        given = next((t for t in factors if id(t) not in self.names and id(t) not in self.sources), None)
        for tensor in tensors:
            weight = self.sources.get(id(tensor), self.names.get(id(tensor), ""))
            if weight and tensor.ndim > 1:
                if weight not in self.weights:
                    std = float(tensor.detach().float().std()) if tensor.numel() > 1 else 0.0
                    fan_in = fan_in_of(call, tensor)
                    role = WeightRole(weight, tuple(tensor.shape), fan_in, std, _rms(call.out), _rms(given))
                    self.weights[weight] = role
                used.append(weight)
        self.open[id(call.out)] = tuple(used)

    def activation(self, call: Call, before: torch.Tensor) -> None:
        """Read a nonlinearity; ``before`` is what it was given, as it was then."""
        given = call.args[0] if call.args else call.kwargs.get("input")
        for weight in self.open.get(id(given), ()):
            role = self.weights[weight]
            if not role.follower:
                role.follower, role.follower_rms, role.settings = call.name, _rms(before), settings_of(call)
        self.open[id(call.out)] = ()
        self.made[id(call.out)] = (call.name, len(self.activations))
        mixes = call.name in MIXERS and call.out.ndim > MATRIX
        self.activations.append("attention" if mixes else call.name)
        self.raw[id(call.out)] = (before, lambda raw: call.on(raw, copied=True), lambda raw: raw)

    def pass_on(self, call: Call, first: torch.Tensor | None) -> None:
        """Read whatever else is called."""
        out = call.out
        tensors = tensors_in([call.args, call.kwargs])
        opened = [self.open[id(t)] for t in tensors if self.open.get(id(t))]
        tags = tuple(dict.fromkeys(tag for part in opened for tag in part))
        if call.name in NORMALIZATIONS:
            self.normalizations += 1
            for weight in tags:
                self.weights[weight].follower = self.weights[weight].follower or "normalization"
            tags = ()
        streams = [t for t in tensors if t.shape == out.shape and t.requires_grad and id(t) not in self.names]
        if call.name in ADDITIONS and len(streams) > 1:
            self._addition(streams)
            tags = ()
        self.open[id(out)] = tags
        if first is not None and id(first) in self.raw and carries(call.name, first, call.args, call.kwargs):
            before, apply, raw = self.raw[id(first)]
            self.made[id(out)] = self.made[id(first)]
            self.raw[id(out)] = (before, lambda v: call.on(apply(v)), lambda v: call.on(raw(v)))

    def _addition(self, streams: list[torch.Tensor]) -> None:
        ends = [self.open.get(id(t), ()) for t in streams]
        if not any(ends):
            return
        self.branches += 1
        latest = max((tag for part in ends for tag in part), key=lambda tag: list(self.weights).index(tag))
        self.weights[latest].branch_end = True

    def survey(self, output: Any) -> Survey:
        """Return what was read, of a forward pass that gave ``output``."""
        activation = None
        if isinstance(output, torch.Tensor) and id(output) in self.raw:
            before, apply, raw = self.raw[id(output)]
            kind, index = self.made[id(output)]
            activation = OutputActivation(kind, apply, raw, tuple(before.shape), index)
        return Survey(
            dict(self.weights), tuple(self.activations), activation, self.branches, self.normalizations, self.hooks
        )


def _angles(name: str, given: torch.Tensor) -> bool:
    """Whether a sine or cosine is one of places, as rotary embeddings take, and not of a signal."""
    return name in {"sin", "cos"} and not given.requires_grad


def _rms(tensor: torch.Tensor | None) -> float:
    if tensor is None or not tensor.is_floating_point():
        return math.nan
    return float(tensor.detach().float().square().mean().sqrt())


def survey(recipe: Recipe, model: nn.Module, batch: Any = None) -> Survey:
    """Read one forward pass of a model, call by call, leaving model and random state as they were.

    Parameters
    ----------
    model
        A network of the recipe, in training mode. What its loss calls other than ``model(...)`` is not read.
    batch
        The recipe's first batch if not given.
    """
    reader = Reader(model)
    return reader.survey(read_forward(recipe, model, reader, batch))


def read_forward(recipe: Recipe, model: nn.Module, reader: Reader, batch: Any = None) -> Any:
    """Run the recipe's loss with a reader around the model's forward; return what the forward gave first."""
    batch = BatchSource(recipe).first(1)[0] if batch is None else batch
    outputs: list[Any] = []

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
    return outputs[0] if outputs else None
