"""Where the nonlinearities stand: which module or line calls each, what it is given, and what its values are for."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from graddoctor.recipe import Recipe
from graddoctor.remedies.calls import Call
from graddoctor.remedies.functions import HARSH, LINEAR, tensors_in
from graddoctor.remedies.plain.activations import ACTIVATION_MODULES
from graddoctor.remedies.survey import Reader, Survey, read_forward

_HERE, _TORCH = Path(__file__).parent, Path(torch.__file__).parent
_CHECKPOINT = _TORCH / "utils" / "checkpoint.py"
_WEIGHING = frozenset(
    {"mul", "multiply", "div", "divide", "true_divide", "lerp", "addcmul", "__mul__", "__rmul__", "__imul__"}
    | {"__truediv__", "__rtruediv__", "rdiv", "where"}
)
_REDUCTIONS = frozenset({"sum", "mean", "norm", "var", "std", "logsumexp", "cumsum", "amax", "max"})
_STATISTICS = frozenset({"exp", "expm1", "square"})


@dataclass(frozen=True)
class Site:
    """One call of a nonlinearity.

    Attributes
    ----------
    kind, index
        As `Survey.activations` has it, and where in it.
    function
        What torch calls it: ``"softmax"`` where the kind is ``"attention"``.
    module
        Name of the activation module that makes the call (nn.Tanh and the like); ``""`` where a forward does.
    owner
        Name of the module whose forward makes the call, or calls the activation module; ``None`` where there is none.
    number
        How many nonlinearities its owner has called before it, in the same run of its forward.
    location
        Line of the user's code, ``"file.py:line"``.
    point
        The module whose output it is given, as it is; ``""`` where something is done to it first.
    before
        Points of the nonlinearities that come before it.
    shape
        Of what it is given.
    output
        Whether it makes the network's output.
    gate
        Whether its values weigh others: gates, attention, hand-written softmax or normalization, functions of weights.
    recomputed
        Whether it is called once more in the backward pass, from within its owner's forward.
    """

    kind: str
    function: str
    module: str
    owner: str | None
    number: int
    index: int
    location: str
    point: str = ""
    before: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    output: bool = False
    gate: bool = False
    recomputed: bool = False

    @property
    def functional(self) -> bool:
        """Whether a forward makes the call, not a module of an activation."""
        return not self.module


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own, at its first call in a forward pass.

    Attributes
    ----------
    input_shape, output_shape
        Of its first tensor in and out.
    calls
        How often it was called.
    """

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    calls: int


@dataclass(frozen=True)
class Anatomy:
    """One forward pass.

    Attributes
    ----------
    sites, layers
        Nonlinearities in the order of their calls, layers in the order of their first.
    elementwise
        Modules of the user's own that hold nothing and give one tensor of the shape that they are given.
    """

    sites: tuple[Site, ...]
    layers: tuple[Layer, ...]
    survey: Survey
    elementwise: frozenset[str] = frozenset()

    @property
    def hidden(self) -> tuple[Site, ...]:
        """Nonlinearities that could be another: they neither make the output nor weigh anything."""
        return tuple(s for s in self.sites if not (s.output or s.gate or s.recomputed or s.kind == "attention"))

    def layer(self, name: str) -> Layer | None:
        """The layer of this name, if it was called."""
        return next((layer for layer in self.layers if layer.name == name), None)


def activation_sites(recipe: Recipe, model: nn.Module, batch: Any = None) -> tuple[Site, ...]:
    """List the nonlinearities of one forward pass in the order of their calls."""
    return anatomy(recipe, model, batch).sites


def anatomy(recipe: Recipe, model: nn.Module, batch: Any = None) -> Anatomy:
    """Read one forward pass of a model, leaving model and random state as they were.

    Parameters
    ----------
    model
        A network of the recipe, in training mode. What its loss calls other than ``model(...)`` is not read.
    batch
        The recipe's first batch if not given.
    """
    reader = _Anatomist(model)
    handles = [module.register_forward_hook(reader.called, with_kwargs=True) for module in model.modules()]
    try:
        output = read_forward(recipe, model, reader, batch)
    finally:
        for handle in handles:
            handle.remove()
    return reader.anatomy(output)


class _Anatomist(Reader):
    """A reader that also knows who calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.modules = {id(module): name for name, module in model.named_modules()}
        self.sites: list[Site] = []
        self.layers: dict[str, Layer] = {}
        self.elementwise: dict[str, bool] = {}
        self.gates: set[int] = set()
        self.points: dict[int, str] = {}  # outputs of modules
        self.upstream: dict[int, tuple[str, ...]] = {}  # points of the last nonlinearities before a tensor
        self.called_before: Counter[str | None] = Counter()
        self.derived: set[int] = set()  # computed from parameters alone

    def called(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Read a call of a module, inner ones first."""
        name, outs = self.modules[id(module)], tensors_in(output)
        del self.called_before[name]
        if not outs:
            return
        self.points.setdefault(id(outs[0]), name)
        self.kept.append(output)
        given = tensors_in([args, kwargs])
        shape = tuple(given[0].shape) if given else ()
        if not _holds_something(module):
            same = len(given) == len(outs) == 1 and shape == outs[0].shape
            self.elementwise[name] = self.elementwise.get(name, True) and same
        if next(module.parameters(recurse=False), None) is None:
            return
        first = self.layers.get(name, Layer(name, shape, tuple(outs[0].shape), 0))
        self.layers[name] = replace(first, calls=first.calls + 1)

    def linear(self, call: Call) -> None:
        """Read a product."""
        self._weigh(call)
        super().linear(call)
        self._carry(call)

    def pass_on(self, call: Call, first: torch.Tensor | None) -> None:
        """Read whatever is neither a product nor a nonlinearity."""
        self._weigh(call)
        super().pass_on(call, first)
        self._carry(call)

    def activation(self, call: Call, before: torch.Tensor) -> None:
        """Read a nonlinearity, and see who calls it."""
        given: Any = call.args[0] if call.args else call.kwargs.get("input")
        caller = _Caller.now()
        point, upstream = self.points.get(id(given), ""), self.upstream.get(id(given), ())
        super().activation(call, before)
        owner = self.modules.get(id(caller.owner))
        self.sites.append(
            Site(
                kind=self.activations[-1],
                function=call.name,
                module=self.modules.get(id(caller.activation), ""),
                owner=owner,
                number=self.called_before[owner],
                index=len(self.activations) - 1,
                location=caller.location,
                point=point,
                before=upstream,
                shape=tuple(before.shape),
                recomputed=caller.recomputed,
            )
        )
        self.called_before[owner] += 1
        if self._is_weight(given):  # the exponential of a scale, no nonlinearity of the signal
            self.derived.add(id(call.out))
            self.gates.add(len(self.sites) - 1)
        self.upstream[id(call.out)] = (point,) if point else upstream

    def _carry(self, call: Call) -> None:
        tensors = tensors_in([call.args, call.kwargs])
        if tensors and all(self._is_weight(tensor) for tensor in tensors):
            self.derived.add(id(call.out))
        self.upstream[id(call.out)] = tuple(
            dict.fromkeys(point for tensor in tensors for point in self.upstream.get(id(tensor), ()))
        )

    def _weigh(self, call: Call) -> None:
        """Note nonlinearities whose values multiply other values, or are summed up to a statistic."""
        tensors = tensors_in([call.args, call.kwargs])
        for tensor in tensors:
            kind, index = self.made.get(id(tensor), ("", -1))
            others = [t for t in tensors if t is not tensor and t.numel() > 1 and not self._is_weight(t)]
            weighs = call.name in _WEIGHING | LINEAR and any(t.requires_grad or kind in HARSH for t in others)
            if index >= 0 and (weighs or (kind in _STATISTICS and call.name in _REDUCTIONS)):
                self.gates.add(index)

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self.names or id(tensor) in self.derived

    def anatomy(self, output: Any) -> Anatomy:
        """Return what was read, of a forward pass that gave ``output``."""
        survey = self.survey(output)
        last = survey.output.index if survey.output else None
        sites = (replace(site, output=site.index == last, gate=site.index in self.gates) for site in self.sites)
        elementwise = frozenset(name for name, always in self.elementwise.items() if always and name)
        return Anatomy(tuple(sites), tuple(self.layers.values()), survey, elementwise)


def frozen(model: nn.Module, name: str) -> bool:
    """Whether the module of this name has parameters and trains none: what was learned there suits what follows it."""
    parameters = list(model.get_submodule(name).parameters()) if name else []
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _holds_something(module: nn.Module) -> bool:
    return any(True for things in (module.children(), module.parameters(), module.buffers()) for _ in things)


@dataclass(frozen=True)
class _Caller:
    """Who calls: the module whose forward runs, the activation module in between, the line of the user's code."""

    owner: nn.Module | None = None
    activation: nn.Module | None = None
    location: str = ""
    recomputed: bool = False

    @classmethod
    def now(cls) -> _Caller:
        """Read the stack."""
        caller = cls()
        for frame in _frames():
            code, path = frame.f_code, Path(frame.f_code.co_filename)
            outside = path.parent != _HERE and _TORCH not in path.parents
            if outside and not caller.location:
                caller = replace(caller, location=f"{path.name}:{frame.f_lineno}")
            if caller.owner is None:
                caller = replace(caller, recomputed=caller.recomputed or path == _CHECKPOINT)
                running = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
                if code.co_name == "forward" and isinstance(running, nn.Module):
                    if type(running).__module__ == ACTIVATION_MODULES:
                        caller = replace(caller, activation=running)
                    else:
                        caller = replace(caller, owner=running)
            elif caller.location:
                break
        return caller


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
