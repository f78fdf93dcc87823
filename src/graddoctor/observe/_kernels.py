"""Stand in for the recurrent kernels of torch, so that a step runs in elementary operations.

`nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells end in one call of a kernel each, whatever has been done to their input
before (batch first, packed, no batch axis, an initial state). That call is what is replaced, in this thread and while
the mode is on; the modules run as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from typing_extensions import override

from graddoctor.observe._cells import CELLS, Step, Weights
from graddoctor.observe._sequences import Attention
from graddoctor.observe._unrolled import Unrolled
from graddoctor.observe.engine import graph_clock

_KERNELS: Mapping[Any, str] = {
    torch.rnn_tanh: "rnn_tanh",
    torch.rnn_relu: "rnn_relu",
    torch.lstm: "lstm",
    torch.gru: "gru",
}
_CELLS: Mapping[Any, str] = {
    torch.rnn_tanh_cell: "rnn_tanh",
    torch.rnn_relu_cell: "rnn_relu",
    torch.lstm_cell: "lstm",
    torch.gru_cell: "gru",
}


@dataclass(frozen=True)
class CellCall:
    """One call of a cell: its module, its kind, what it made (in the graph of the loss), and with which weights."""

    module: str
    kind: str
    step: Step
    weights: Weights
    known: frozenset[int]  # ids of its weights
    before: tuple[Tensor | None, Tensor | None]  # hidden and cell state that it was given


class Kernels(TorchFunctionMode):
    """Runs recurrent kernels in elementary operations and keeps what they did.

    Attributes
    ----------
    layers
        Every run of a layer, in order.
    cells
        Every call of a cell, in order.
    fresh
        By number in the graph, the tensors without a graph of their own (data) that went into an operation.
    attention, output
        What was seen of attention, and what the model returned.
    own_masks
        Whether a kernel would have drawn dropout that no other operation can draw alike.
    rounding
        Coarsest relative rounding of what carries a state.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers: list[Unrolled] = []
        self.cells: list[CellCall] = []
        self.fresh: dict[int, list[Tensor]] = {}
        self.attention = Attention()
        self.output: Any = None
        self.own_masks, self.rounding = False, 0.0
        self._constant = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._names = {id(module): name for name, module in model.named_modules()}
        self._stack: list[str] = []

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Stand in during a forward pass."""
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def run_again(self) -> Iterator[None]:
        """Stand in where a module runs a second time, as a checkpoint has it do on the way back.

        ``torch.autograd.grad`` is itself a function that a mode is asked about, and runs without it.
        """
        running: list[nn.Module] = []

        def enter(module: nn.Module, args: Any) -> None:
            del args
            if not running:
                self.__enter__()  # type: ignore[no-untyped-call] # torch leaves its modes untyped
            running.append(module)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            del module, args, output
            running.pop()
            if not running:
                self.__exit__(None, None, None)  # type: ignore[no-untyped-call] # as above

        handles = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        del args
        if id(module) in self._names:
            self._stack.append(self._names[id(module)])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        del args
        if id(module) in self._names and self._stack:
            self._stack.pop()
            self.output = self.output if self._stack else output

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func in _KERNELS and not kwargs and args[0].numel():
            return self._kernel(_KERNELS[func], args)
        if func in _CELLS and not kwargs:
            return self._cell(_CELLS[func], args)
        before = graph_clock()
        result = func(*args, **(kwargs or {}))
        after = graph_clock()
        self.attention.see(func, args, kwargs or {}, result, self._here())
        if after > before:
            data = [tensor for tensor in _tensors(args, kwargs) if self._is_data(tensor)]
            if data:
                self.fresh.update(dict.fromkeys(range(before, after), data))
        return result

    def _is_data(self, tensor: Tensor) -> bool:
        return not tensor.requires_grad and tensor.dim() > 0 and id(tensor) not in self._constant

    def _cell(self, kind: str, args: Sequence[Any]) -> Any:
        x, hx, w_x, w_h, b_x, b_h = (*args, None, None)[:6]
        h, c = hx if kind == "lstm" else (hx, None)
        weights = Weights(w_h, b_h)
        step = CELLS[kind].step(functional.linear(x, w_x, b_x), h, c, weights)
        known = frozenset(id(one) for one in (w_x, w_h, b_x, b_h) if one is not None)
        self.cells.append(CellCall(self._here(), kind, step, weights, known, (h, c)))
        self._rounds(step.h.dtype)
        return (step.h, step.c) if kind == "lstm" else step.h

    def _rounds(self, dtype: torch.dtype) -> None:
        self.rounding = max(self.rounding, torch.finfo(dtype).eps)

    def _here(self) -> str:
        return self._stack[-1] if self._stack else ""

    def _kernel(self, kind: str, args: Sequence[Any]) -> Any:
        packed = not isinstance(args[2], (list, tuple)) or isinstance(args[3], (list, tuple))
        data, hx, rest = (args[0], args[2], args[3:]) if packed else (args[0], args[1], args[2:])
        weights, biases, layers, dropout, training, both, *batch_first = rest
        x = data if packed or not batch_first[0] else data.transpose(0, 1)
        sizes = args[1].tolist() if packed else [x.shape[1]] * x.shape[0]
        states = tuple(hx) if kind == "lstm" else (hx,)
        stack = _Stack(kind, layers, 2 if both else 1, list(weights), dropout if training else 0.0, biases=biases)
        with _disable_current_modes(), torch.autocast(x.device.type, enabled=False):
            rows, last = self._run(stack, x.flatten(0, 1) if not packed else x, sizes, states)
        out = rows if packed else rows.view(len(sizes), sizes[0], -1)
        return (out if packed or not batch_first[0] else out.transpose(0, 1), *last)

    def _run(
        self, stack: _Stack, rows: Tensor, sizes: Sequence[int], states: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        like, wide = rows.dtype, torch.promote_types(states[0].dtype, torch.float32)
        self._rounds(like)
        rows, states = rows.to(wide), [state.to(wide) for state in states]
        ends: list[list[Tensor]] = [[] for _ in states]
        for layer in range(stack.layers):
            outputs = []
            for direction in range(stack.directions):
                place = layer * stack.directions + direction
                w_x, b_x, weights = stack.at(place, wide)
                run = Unrolled(self._here(), layer, CELLS[stack.kind], weights, sizes, reverse=direction == 1)
                self.layers.append(run)
                first, inner = states[0][place], states[1][place] if len(states) > 1 else None
                out, *last = run(functional.linear(rows, w_x, b_x), first, inner)
                outputs.append(out)
                for end, state in zip(ends, last, strict=False):
                    if state is not None:
                        end.append(state)
            rows = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
            if stack.dropout and layer < stack.layers - 1:
                rows = functional.dropout(rows, stack.dropout)
                self.own_masks = self.own_masks or rows.is_cuda
        return rows.to(like), [torch.stack(end).to(like) for end in ends]


@dataclass(frozen=True)
class _Stack:
    """A call of a kernel: how many layers, and where in the flat list each has its weights."""

    kind: str
    layers: int
    directions: int
    weights: list[Tensor]
    dropout: float
    biases: bool

    def at(self, place: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Weights]:
        """Input weight, input bias and recurrent weights of one layer in one direction."""
        each = len(self.weights) // (self.layers * self.directions)
        w_x, w_h, *rest = (weight.to(dtype) for weight in self.weights[place * each : (place + 1) * each])
        b_x, b_h = rest[:2] if self.biases else (None, None)
        project = rest[-1] if each == (5 if self.biases else 3) else None
        if self.kind != "gru" and b_x is not None and b_h is not None:  # only a GRU needs them apart
            b_x, b_h = b_x + b_h, None
        b_h, project = (None if one is None else one.detach() for one in (b_h, project))
        return w_x, b_x, Weights(w_h.detach(), b_h, project)


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    for value in (*args, *(kwargs or {}).values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from (inner for inner in value if isinstance(inner, Tensor))
