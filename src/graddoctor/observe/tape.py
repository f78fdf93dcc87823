"""Write down a forward pass operator by operator, for a theory that follows it without its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe._guard import Guard
from graddoctor.observe._operations import kind_of
from graddoctor.observe._recorder import Plan, Recorder, Seen


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a tensor that samples flow through: the same tensor has the same ``index`` everywhere."""

    index: int
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        total = 1
        for length in self.shape:
            total *= length
        return total


@dataclass(frozen=True, eq=False)
class Call:
    """One operator call on the way of the samples.

    Attributes
    ----------
    kind
        What it is called in the graph: ``"linear"``, ``"relu"``.
    function, arguments, options
        The operator and what it was given; tensors that samples flow through are `Ref` there.
    results
        What it gave; ``None`` for results that are no floating tensors.
    tensors
        The same, as they are.
    number
        Of its node in the autograd graph; -1 where it made none.
    module
        In which it ran.
    barred
        Indices of tensors that it was given without a way back: detached, or made where no graph was kept.
    """

    kind: str
    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: tuple[Ref | None, ...]
    tensors: tuple[Tensor | None, ...]
    number: int
    module: str
    barred: frozenset[int] = frozenset()

    @property
    def out(self) -> Ref:
        """The first result."""
        first = self.results[0]
        assert first is not None  # noqa: S101 - a call without a floating result is not written down
        return first

    def refs(self) -> Iterator[Ref]:
        """Every tensor with samples that it was given, as often as it was."""
        for value in (*self.arguments, *self.options.values()):
            yield from (value,) if isinstance(value, Ref) else _in_list(value)


def _in_list(value: Any) -> Iterator[Ref]:
    if isinstance(value, (tuple, list)):
        yield from (entry for entry in value if isinstance(entry, Ref))


_BLANK = frozenset(
    name for what in ("empty", "zeros", "ones", "full", "rand", "randn") for name in (f"new_{what}", f"{what}_like")
)
"""Operators that take no more than the shape of what they are given."""


class Tape(Recorder):  # type: ignore[no-untyped-call] # torch leaves its hook for subclasses untyped
    """Records calls in the order in which they ran, and measures nothing.

    Attributes
    ----------
    calls
        In forward order.
    sources
        By the index of their `Ref`: tensors whose making is no call here (inputs, embeddings).
    begun
        Those of them that a node of the graph made, by its number.
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        super().__init__(model, guard)
        self.calls: list[Call] = []
        self.sources: dict[int, Tensor] = {}
        self.begun: dict[int, Ref] = {}
        self._refs: dict[int, tuple[Tensor, Ref]] = {}  # holds the tensors, so that no id is used again
        self._constants: dict[int, Tensor] = {}
        self._count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tuple(map(self._referred, args)), {name: self._referred(value) for name, value in kwargs.items()}
        barred = self._barred((*args, *kwargs.values())) if torch.is_grad_enabled() else frozenset()
        before = self._last
        result = super().__torch_dispatch__(func, types, args, kwargs)
        tensors = tuple(t if _floats(t) else None for t in (result if isinstance(result, (tuple, list)) else (result,)))
        number = self._last if self._last != before else -1
        if any(t is not None and self.trace(t) is not None for t in tensors):
            base = tensors[0]._base if func._schema.is_mutable and tensors[0] is not None else None  # noqa: SLF001 - a view's
            if base is None:
                self._write(func, given, tensors, number, barred)
            else:
                self._write_into(base, func, given, number, barred)
        return result

    def _barred(self, given: Iterable[Any]) -> frozenset[int]:
        """What of these comes of samples and of operators, and has no gradient.

        Within a function of the user's own no graph is kept either, and yet its result has one: only what is used
        where graphs are kept tells.
        """
        listed = (entry for value in given for entry in (value if isinstance(value, (tuple, list)) else (value,)))
        held = [t for t in listed if isinstance(t, Tensor) and not t.requires_grad and id(t) in self._refs]
        return frozenset(self._refs[id(tensor)][1].index for tensor in held)

    def _write_into(self, base: Tensor, func: Any, given: tuple[Any, Any], number: int, barred: frozenset[int]) -> None:
        """Note a write to a part of a tensor: the node of the whole comes right after that of the write."""
        before = self._refs.get(id(base))
        arguments, options = given
        source = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], Ref) else None
        self._constants.pop(id(base), None)
        after = self._new(base)
        if before is None and source is None:
            self.sources[after.index] = base
            return
        module = self._stack[-1] if self._stack else ""
        reads = (before[1] if before is not None else None, source)
        node = number + 1 if number >= 0 else -1
        kind = f"write {func.__name__}"
        self.calls.append(Call(kind, func, reads, options, (after,), (base,), node, module, barred))

    def _referred(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._ref(value) if self._varies(value) else value
        if isinstance(value, (tuple, list)) and any(isinstance(entry, Tensor) for entry in value):
            return [self._referred(entry) for entry in value]
        return value

    def _varies(self, tensor: Tensor) -> bool:
        return _floats(tensor) and id(tensor) not in self._constants and self.trace(tensor) is not None

    def _ref(self, tensor: Tensor) -> Ref:
        known = self._refs.get(id(tensor))
        if known is not None:
            return known[1]
        ref = self._new(tensor)
        self.sources[ref.index] = tensor
        return ref

    def _new(self, tensor: Tensor) -> Ref:
        ref = Ref(self._count, tuple(tensor.shape))
        self._count += 1
        self._refs[id(tensor)] = (tensor, ref)
        return ref

    def _write(
        self,
        func: Any,
        given: tuple[Any, Any],
        tensors: tuple[Tensor | None, ...],
        number: int,
        barred: frozenset[int],
    ) -> None:
        if _blank(func):
            self._constants |= {id(t): t for t in tensors if t is not None}
        if all(t is None or id(t) in self._constants for t in tensors):
            return
        results = tuple(None if t is None else self._new(t) for t in tensors)
        arguments, options = given
        kind = kind_of(func._schema.name.rsplit("::", 1)[-1].rstrip("_"))  # noqa: SLF001 - as in the recorder
        module = self._stack[-1] if self._stack else ""
        call = Call(kind, func, arguments, options, results, tensors, number, module, barred)
        if results[0] is None:
            return
        if next(call.refs(), None) is None:
            pairs = zip(results, tensors, strict=True)
            self.sources |= {ref.index: t for ref, t in pairs if ref is not None and t is not None}
            if number >= 0:
                self.begun[number] = call.out
        else:
            self.calls.append(call)

    def _file(self, plan: Plan, out: Tensor | None, *, data: bool) -> None:
        """Note the node alone: spreads and sizes are what theory is to tell."""
        del out
        number = self._node_number(plan)
        if number != self._last:
            self._last, self._cloned = number, plan.kind == "clone"
            self.now.seen[number] = Seen(data)

    def _look(self, *args: Any, **kwargs: Any) -> None:
        """Leave nonlinearities alone."""


def _blank(func: Any) -> bool:
    return func._schema.name.rsplit("::", 1)[-1] in _BLANK  # noqa: SLF001 - as in the recorder


def _floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not value.is_nested
