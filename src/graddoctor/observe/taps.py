"""Taps: slabs of what modules give out, and of the gradient that comes back, copied inside hooks.

A tap is one use of a module. Its hook copies at most 512 values into a place that stays the same, and nothing more:
no reduction, no host synchronisation, no random number from the user's generators. Gradients are read by a hook on the
output tensor; full backward hooks would break in-place successors and slow every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe import engine
from graddoctor.observe._nonlinear import Nonlinearity
from graddoctor.observe.collector import plain_name
from graddoctor.observe.modules import Arguments, kind_of_module, nonlinearity_of, tappable
from graddoctor.observe.slab import Slab, slab
from graddoctor.observe.statistics import norms

EXACT_EVERY = 16  # steps between two exact readings of the norm of one activation's gradient


def _ignore(*_: object, **__: object) -> None:
    """What a hook of graddoctor becomes in a copy of the model, on disk or in memory."""


class Hook:
    """A hook that does its work on the module it was made for only: copied or saved, it does nothing."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _nothing, ()


def _nothing() -> Callable[..., None]:
    return _ignore


class Tap:
    """One use of one module: how its slab is cut, and where the last one lies (NaN: not read)."""

    def __init__(self, name: str, module: str, kind: str, found: tuple[Nonlinearity, Arguments] | None) -> None:
        self.name = name
        self.module = module
        self.kind = kind
        self.nonlinearity: Nonlinearity | None = None if found is None else found[0]
        self.arguments: Arguments = () if found is None else found[1]
        self.order = -1
        self.shape: tuple[int, ...] = ()
        self.dtype = ""
        self.plan: Slab | None = None
        self._layout: tuple[Any, ...] | None = None
        self.output = self.input = self.gradient = self.exact = torch.zeros(0)
        self._views = [self.output, self.input, self.gradient]  # the same, shaped like what is cut
        self.on_gradient = Hook(self._read_gradient)
        self.turn = 0.0
        self.exactly = True
        self.guarded_copy: Callable[[Tensor], None] = self.copy_gradient

    @property
    def buffers(self) -> list[Tensor]:
        """The places that hooks write to."""
        return [self.output, self.input, self.gradient, self.exact]

    def place(self, buffers: list[Tensor]) -> None:
        """Write to other places from now on."""
        self.output, self.input, self.gradient, self.exact = buffers
        if self.plan is not None:
            shape = self.plan.view
            self._views = [buffer.view(shape) if buffer.numel() else buffer for buffer in buffers[:3]]

    def fits(self, tensor: Tensor) -> bool:
        """Plan the slab for tensors of this shape; ``False`` where there is nothing to sample."""
        layout = (tensor.shape, tensor.stride())
        if layout != self._layout:
            plan = slab(tensor, whole_rows=self.kind == "softmax")
            self._layout = layout
            fresh = plan is None or self.plan is None or plan.view != self.plan.view
            self.plan = plan
            if fresh:
                self._allocate(tensor, plan)
            self.shape = tuple(tensor.shape)
            self.dtype = str(tensor.dtype).removeprefix("torch.")
        return self.plan is not None

    def _allocate(self, tensor: Tensor, plan: Slab | None) -> None:
        count = 0 if plan is None else plan.count
        sizes = (count, count if self.nonlinearity is not None else 0, count, 1)
        self.place([torch.full((size,), torch.nan, device=tensor.device) for size in sizes])

    def read(self, output: Tensor, inputs: Tensor | None) -> None:
        """Copy the slab of an output, and of the input where that has the same layout."""
        assert self.plan is not None  # noqa: S101  # `fits` was asked before
        self._views[0].copy_(self.plan.cut(output, self.turn))
        if inputs is not None and self.nonlinearity is not None and (inputs.shape, inputs.stride()) == self._layout:
            self._views[1].copy_(self.plan.cut(inputs, self.turn))

    def _read_gradient(self, gradient: Tensor) -> None:
        self.guarded_copy(gradient)

    def copy_gradient(self, gradient: Tensor) -> None:
        """Copy the slab of the gradient of the output; when it is this tap's turn, take its exact norm."""
        if self.plan is None or gradient.layout != torch.strided or gradient.shape != torch.Size(self.shape):
            return
        if self._layout is not None and gradient.stride() != self._layout[1]:
            plan = slab(gradient, whole_rows=self.kind == "softmax")
        else:
            plan = self.plan
        if plan is None or plan.view != self.plan.view:
            return
        self._views[2].copy_(plan.cut(gradient, self.turn))
        if self.exactly:
            self.exact.copy_(norms([gradient]))


class Taps:
    """All taps of a model. `begin` before a forward pass, `begin_step` before a step.

    ``open`` tells whether this step is read; ``inside`` whether the forward pass of the root that is running is to be
    read (``None``: none is running, and a module that is called by itself decides for itself).
    """

    def __init__(self, guard: Callable[..., Any]) -> None:
        self.taps: list[Tap] = []  # in the order of the first forward pass
        self.open = False
        self.inside: bool | None = None
        self.names: list[str] = []
        self.forwards = 0  # uses of modules so far, a checkpoint's second ones left out
        self.read = 0
        self.early = True
        self._turn = 0.0
        self._guard = guard
        self._uses: dict[int, list[Tap]] = {}
        self._calls: dict[int, int] = {}
        self._inplace: dict[int, Tensor] = {}
        self.handles: list[Any] = []

    def install(self, model: nn.Module, prefixes: tuple[str, ...]) -> None:
        """Hook all modules whose output says something; ``prefixes`` are dropped from their names."""
        for name, module in tappable(model):
            self._install(module, plain_name(name, prefixes))

    def _install(self, module: nn.Module, name: str) -> None:
        found = nonlinearity_of(module)
        first = Tap(name, name, kind_of_module(module), found)
        self._uses[id(module)] = [first]
        self.names.append(name)
        read, read_before = self._guard(self._after), self._guard(self._before_inplace)

        def before(called: nn.Module, args: tuple[Any, ...]) -> None:
            if not torch.compiler.is_compiling() and called is module and self._wanted(called):
                read_before(called, args)

        def after(called: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not torch.compiler.is_compiling() and called is module and self._wanted(called):
                read(called, args, output)

        if found is not None and getattr(module, "inplace", False):
            self.handles.append(module.register_forward_pre_hook(Hook(before)))
        self.handles.append(module.register_forward_hook(Hook(after)))

    def _wanted(self, module: nn.Module) -> bool:
        """Whether this call of a module belongs to a training step that is read."""
        if not self.open:
            return False
        return self.inside if self.inside is not None else module.training and torch.is_grad_enabled()

    def begin(self, *, inside: bool) -> None:
        """Start counting the uses of every module: a forward pass of the root begins."""
        self.inside = inside
        self._calls.clear()

    def begin_step(self, read: int, turn: float, *, early: bool, reading: bool) -> None:
        """Sample other rows from now on. So many steps were ``read``; ``early`` ones read every gradient exactly."""
        self.read, self._turn, self.early, self.open = read, turn, early, reading
        self._calls.clear()

    def take(self) -> list[list[Tensor]]:
        """Return copies of what the hooks have written, and forget it."""
        taken = [[buffer.clone() for buffer in tap.buffers] for tap in self.taps]
        for tap in self.taps:
            for buffer in tap.buffers:
                buffer.fill_(torch.nan)
        return taken

    def give(self, taken: list[list[Tensor]]) -> None:
        """Put back what was taken."""
        for tap, buffers in zip(self.taps, taken, strict=False):
            for buffer, kept in zip(tap.buffers, buffers, strict=True):
                if buffer.shape == kept.shape:
                    buffer.copy_(kept)

    def _tap(self, module: nn.Module, *, again: bool) -> Tap:
        """Return the tap of this use. A checkpoint's second forward pass is no use of its own."""
        uses = self._uses[id(module)]
        if again:
            return uses[0]
        call = self._calls.get(id(module), 0)
        self._calls[id(module)] = call + 1
        while call >= len(uses):
            first = uses[0]
            found = None if first.nonlinearity is None else (first.nonlinearity, first.arguments)
            uses.append(Tap(f"{first.name}#{len(uses) + 1}", first.module, first.kind, found))
        return uses[call]

    def _before_inplace(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and type(args[0]) is Tensor and not engine.is_transformed(args[0]):
            plan = slab(args[0])
            if plan is not None:
                self._inplace[id(module)] = plan.cut(args[0], self._turn).clone()

    def _after(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        output = _first_tensor(result)
        if output is None or type(output) is not Tensor or engine.is_transformed(output):
            return
        again = engine.in_backward()
        self.forwards += not again
        tap = self._tap(module, again=again)
        if not tap.fits(output):
            return
        if tap.order < 0:
            tap.order = len(self.taps)
            tap.guarded_copy = self._guard(tap.copy_gradient)
            self.taps.append(tap)
        tap.turn = self._turn
        tap.exactly = self.early or (tap.order + self.read) % EXACT_EVERY == 0
        if not again:
            self._read(module, tap, output, args)
        if output.requires_grad:  # hooks may be registered where gradients are off
            output.register_hook(tap.on_gradient)  # type: ignore[no-untyped-call]  # torch has no types here

    def _read(self, module: nn.Module, tap: Tap, output: Tensor, args: tuple[Any, ...]) -> None:
        kept = self._inplace.pop(id(module), None)
        inputs = args[0] if args and type(args[0]) is Tensor and kept is None else None
        tap.read(output, inputs)
        if kept is not None and tap.plan is not None and kept.shape == tap.plan.view:
            tap.input.copy_(kept.flatten())

    def remove(self) -> None:
        """Take all hooks off the modules."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


def _first_tensor(result: Any) -> Tensor | None:
    """Return the first floating tensor of a (nested) output."""
    if isinstance(result, Tensor):
        return result if result.is_floating_point() and result.layout == torch.strided else None
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, tuple | list):
        for part in result:
            found = _first_tensor(part)
            if found is not None:
                return found
    return None
