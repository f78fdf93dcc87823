"""Follow a forward pass: which operation ran in which module, what samples flowed into, and how far apart they stay."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from graddoctor.observe import _activations as activations
from graddoctor.observe import _operations as operations
from graddoctor.observe import _samples as samples_of
from graddoctor.observe._attention import Watch
from graddoctor.observe._guard import Guard
from graddoctor.observe._nonlinear import SOFTSIGN, Nonlinearity, nonlinearity

_number: Callable[[], int] = torch._C._autograd._get_sequence_nr  # noqa: SLF001 - the clock of the graph; FX reads it too
_UNKNOWN = 1 << 200  # origin bit of samples that are not in the batch
_MANY = 1000  # entries of a list that are looked at for tensors
_MATRIX = 2  # axes up to which features lie on the last one
_LOOKED_THROUGH = {"select", "slice", "dropout"}  # what came out is told as made by what went in
_CANDIDATES = frozenset(operations.activations())


class Plan(NamedTuple):
    """What is known of an operator before it is called."""

    kind: str
    sort: str
    writes: tuple[tuple[int, str], ...]  # place and name of the arguments that it overwrites
    nonlinear: bool


class Trace(NamedTuple):
    """What is known of a tensor: from which tensors of the batch (bits), by what it was made, are units on axis 1."""

    alive: weakref.ref[Tensor]
    origin: int
    kind: str
    module: str
    channels: bool


@dataclass
class Seen:
    """One operation with a node in the graph."""

    data: bool
    spread: Tensor | None = None
    rms: Tensor | None = None


@dataclass
class Pass:
    """One forward pass: what went in at the top, what came out, and every operation by its number in the graph."""

    samples: int
    handed: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, int] = field(default_factory=dict)
    output: Any = None
    end: int | None = None
    seen: dict[int, Seen] = field(default_factory=dict)
    calls: list[tuple[int, str, bool]] = field(default_factory=list)  # (number, module from here on, entered or left)

    def module_at(self, number: int) -> str:
        """The innermost module that ran when the node with this number was made (``""``: the root, or none)."""
        place = bisect_right(self.calls, number, key=lambda call: call[0])
        return self.calls[place - 1][1] if place else ""

    def module_of(self, number: int, kind: str) -> str:
        """The same; for a re-entrant checkpoint, whose operations stay hidden, the module that it called."""
        if kind != "checkpoint":
            return self.module_at(number)
        place = bisect_right(self.calls, number, key=lambda call: call[0])
        inner = self.calls[place : place + 1]
        return inner[0][1] if inner and inner[0][0] == number + 1 and inner[0][2] else self.module_at(number)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its hook for subclasses untyped
    """Watches the forward passes of one probe.

    Operators are seen below autograd: each that makes a node runs right after the node has drawn its number.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare two seconds: torch would import its compiler only to keep it away from this class."""
        return False

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._model = model
        self.names: dict[int, str] = {}
        self.plain: set[str] = set()  # modules that hold nothing: their own name says which function they are
        for name, module in model.named_modules():
            self.names[id(module)] = name
            if name and next(module.children(), None) is None and next(module.parameters(), None) is None:
                self.plain.add(name)
        self.guard = guard
        self.uses: dict[str, activations.Use] = {}
        self.dtypes: dict[torch.dtype, None] = {}
        self.attention = Watch(lambda tensor: self.trace(tensor) is not None)
        self.now = Pass(0)
        self._plans: dict[Any, Plan] = {}
        self._traces: dict[int, Trace] = {}
        self._stack: list[str] = []
        self._counts: dict[str, int] = {}
        self._last = -1
        self._inside_custom = False
        self._cloned = False
        self._absolute: tuple[int, Tensor, Tensor] | None = None
        self._measured: tuple[Tensor, Tensor | None, Tensor] | None = None
        self._detailed = False
        self._told = False

    @contextmanager
    def follow(self, tensors: list[Tensor], *, detailed: bool) -> Iterator[Pass]:
        """Record one forward pass over a batch that holds ``tensors``; ``detailed``: keep what the graph needs."""
        samples = samples_of.batch_size([tuple(t.shape) for t in tensors])
        self.now, self._detailed, self._told = Pass(samples), detailed, bool(tensors)
        self._traces.clear()
        self._counts.clear()
        self._stack.clear()
        self._last = _number() - 1
        for bit, tensor in enumerate(tensors):
            self._remember(tensor, 1 << bit, "input", "", channels=False)
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
            self._model.register_forward_pre_hook(self._enter_root, with_kwargs=True),
        ]
        try:
            with self:
                yield self.now
        finally:
            for handle in handles:
                handle.remove()
            self._absolute = self._measured = None

    def trace(self, tensor: Tensor) -> Trace | None:
        """What is known of a tensor, if it was made from the batch in this pass."""
        known = self._traces.get(id(tensor))
        return known if known is not None and known.alive() is tensor else None

    def _remember(self, tensor: Tensor, origin: int, kind: str, module: str, *, channels: bool) -> None:
        self._traces[id(tensor)] = Trace(weakref.ref(tensor), origin, kind, module, channels)

    # -- modules

    def _enter_root(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take the keyword arguments, which torch keeps from hooks on all modules."""
        del module, args
        if len(self._stack) == 1:
            for path, tensor in tensors_in(kwargs):
                self._hand(path, tensor)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        name = self.names.get(id(module))
        if name is None:
            return
        if not self._stack:
            for index, value in enumerate(args):
                for path, tensor in tensors_in(value, f"input {index + 1}" if len(args) > 1 else "input"):
                    self._hand(path, tensor)
        self._stack.append(name)
        self._note_call(name, entered=True)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args
        if id(module) not in self.names or not self._stack:
            return
        self._stack.pop()
        self._note_call(self._stack[-1] if self._stack else "", entered=False)
        if not self._stack:
            self.now.output, self.now.end = output, _number()

    def _hand(self, path: str, tensor: Tensor) -> None:
        if path in self.now.handed:
            return
        self.now.handed[path] = tensor
        known = self.trace(tensor)
        self.now.origins[path] = known.origin if known is not None else 0
        if known is None:  # made out of sight, or not from the batch: samples all the same
            self._remember(tensor, _UNKNOWN, "input", "", channels=False)
            self._told = True

    def _note_call(self, name: str, *, entered: bool) -> None:
        if self._detailed:
            self.now.calls.append((_number(), name, entered))

    # -- operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        plan = self._plans.get(func)
        if plan is None:
            plan = self._plans[func] = _plan(func)
        written = [*_written(plan, args, kwargs)] if plan.writes else []
        for tensor in written:
            self.guard.before_write(tensor)
        what = nonlinearity(plan.kind, args, kwargs) if plan.nonlinear else None
        origin, axes = self._origin(args, kwargs)
        before = None
        if what is not None and (origin or not self._told) and _readable(args):
            before = activations.look_before(what, args[0], args, kwargs, in_place=bool(plan.writes))
        result = func(*args, **kwargs)
        out = _first(result)
        if what is not None and before is not None and out is not None:
            self._look(plan, what, before, activations.Call(args[0], out, args, kwargs, self.now.samples), axes)
        if out is not None and out.is_floating_point():
            self.dtypes.setdefault(out.dtype)
        if origin:
            self._trace_results(plan, origin, axes, args, result)
            for tensor in written:
                if tensor._base is not None:  # noqa: SLF001 - the tensor that a write to its view changes
                    self._remember(tensor._base, origin, plan.kind, "", channels=False)  # noqa: SLF001 - as above
        if self._detailed:
            place = self._stack[-1] if self._stack else "", self.now.samples
            self.attention.see(plan.kind, func, args, kwargs, result, place=place)
            self._file(plan, out, data=bool(origin) or not self._told)
        return result

    def _origin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int, int]:
        """Which tensors of the batch flow in, and how many axes those have whose units lie on axis 1."""
        origin, axes = 0, 0
        for tensor in _flat(args, kwargs):
            known = self.trace(tensor)
            if known is not None:
                origin |= known.origin
                axes = max(axes, tensor.dim() if known.channels else 0)
        return origin, axes

    def _trace_results(self, plan: Plan, origin: int, axes: int, args: tuple[Any, ...], result: Any) -> None:
        kind, module = plan.kind, self._stack[-1] if self._stack else ""
        known = self.trace(args[0]) if args and isinstance(args[0], Tensor) else None
        if known is not None and (plan.sort == operations.VIEW or kind in _LOOKED_THROUGH):
            kind, module = known.kind, known.module
        moved = plan.sort in {operations.WEIGHT, operations.VIEW} and plan.kind not in {"cast", "clone", "detach"}
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                channels = plan.kind == "convolution" or (not moved and axes == tensor.dim())
                self._remember(tensor, origin, kind, module, channels=channels)
        if plan.kind in {"abs", "add", "div"}:
            self._softsign(plan, args, _first(result), axes)

    def _node_number(self, plan: Plan) -> int:
        """Number of the node of the operation that runs now, if it makes one.

        An operation in place whose derivative needs the input copies it between making its node and running.
        """
        number = _number() - 1
        return number - 1 if plan.writes and self._cloned and number == self._last else number

    def _file(self, plan: Plan, out: Tensor | None, *, data: bool) -> None:
        """Store what the operation made under the number of its node, if it made one."""
        number = self._node_number(plan)
        custom = not torch.is_grad_enabled()  # only a custom function runs without grad after its node was made
        if number == self._last:
            if not (custom and self._inside_custom):
                return
        else:
            self._inside_custom = custom
        self._last, self._cloned = number, plan.kind == "clone"
        seen = self.now.seen[number] = Seen(data)
        if data and out is not None and _plain(out) and plan.sort != operations.VIEW:
            done = self._measured
            if done is None or done[0] is not out:
                done = (out, samples_of.spread(out, self.now.samples), samples_of.square(out))
            seen.spread, seen.rms = done[1], (done[2] / max(out.numel(), 1)).sqrt()
        self._measured = None

    # -- nonlinearities

    def _look(
        self,
        plan: Plan,
        what: Nonlinearity,
        before: activations.Before,
        call: activations.Call,
        axes: int,
    ) -> None:
        y = call.y
        if not y.is_floating_point():
            return
        use = self._use(plan, what, y)
        units_second = axes == y.dim() or y.dim() in {4, 5}
        apart, size = samples_of.spread(y, self.now.samples), samples_of.square(y)
        self._measured = (y, apart, size)
        activations.look_after(use, before, call, apart, size, channels=units_second and y.dim() > _MATRIX)

    def _use(self, plan: Plan, what: Nonlinearity, y: Tensor) -> activations.Use:
        module = self._stack[-1] if self._stack else ""
        place = module if self._stack else "loss" if self.now.end is not None else ""
        name = place if place in self.plain else f"{place}:{what.kind}" if place else what.kind
        count = self._counts[name] = self._counts.get(name, 0) + 1
        if count > 1:
            name = f"{name}#{count}"
        use = self.uses.get(name)
        if use is None:
            use = self.uses[name] = activations.Use(name, module, what, tuple(y.shape), -1)
        if self._detailed:
            use.number = self._node_number(plan)
        return use

    def _softsign(self, plan: Plan, args: tuple[Any, ...], out: Tensor | None, axes: int) -> None:
        """Recognise x / (1 + |x|), which torch computes in three steps."""
        if out is None:
            return
        if plan.kind == "abs":
            self._absolute = (id(out), args[0], out)
        elif self._absolute is not None:
            tag, x, _ = self._absolute
            if plan.kind == "add" and id(args[0]) == tag and args[1:2] == (1,):
                self._absolute = (id(out), x, out)
            elif plan.kind == "div" and args[0] is x and id(args[1]) == tag:
                before = activations.look_before(SOFTSIGN, x, (), {}, in_place=False)
                self._look(plan, SOFTSIGN, before, activations.Call(x, out, args, {}, self.now.samples), axes)
                self._absolute = None


def _plan(func: Any) -> Plan:
    schema = func._schema  # noqa: SLF001 - every operator's public description hides behind this name
    writes = tuple(
        (place, arg.name)
        for place, arg in enumerate(schema.arguments)
        if arg.alias_info is not None and arg.alias_info.is_write
    )
    kind = operations.kind_of(schema.name.rsplit("::", 1)[-1].rstrip("_"))
    return Plan(kind, operations.sort_of(kind), writes, kind in _CANDIDATES)


def _readable(args: tuple[Any, ...]) -> bool:
    x = args[0] if args else None
    return isinstance(x, Tensor) and _plain(x) and x.numel() > 0


def _plain(x: Tensor) -> bool:
    return x.is_floating_point() and x.layout is torch.strided and not x.is_nested


def _written(plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    values = (args[place] if place < len(args) else kwargs.get(name) for place, name in plan.writes)
    yield from _flat(tuple(values), {})


def _first(result: Any) -> Tensor | None:
    if isinstance(result, (tuple, list)):
        result = result[0] if result else None
    return result if isinstance(result, Tensor) else None


def _flat(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            for inner in value:
                if isinstance(inner, Tensor):
                    yield inner


def tensors_in(value: Any, path: str = "", depth: int = 4) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in tuples, lists, dicts, dataclasses and plain objects, with the path to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif depth == 0 or value is None or isinstance(value, (str, bytes, int, float, nn.Module)):
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(value, (tuple, list)):
        for index, inner in enumerate(value[:_MANY]):
            yield from tensors_in(inner, f"{path}[{index}]" if path else str(index), depth - 1)
    elif not isinstance(value, type) and (hasattr(value, "__dict__") or is_dataclass(value)):
        entries = vars(value) if hasattr(value, "__dict__") else {f.name: getattr(value, f.name) for f in fields(value)}
        for key, inner in entries.items():
            yield from tensors_in(inner, f"{path}.{key}" if path else key, depth - 1)
