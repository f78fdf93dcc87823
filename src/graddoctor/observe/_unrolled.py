"""Run one layer of a recurrent network step by step, and take a gradient back through it exactly.

A fused kernel gives h_t for every t, but the gradient only at its two ends. So the look runs the same layer in
elementary operations: forward without a graph, back with the formulae of `_cells`. Rows lie as in packed sequences: all
samples of the first time step, then all that still run at the second, …; where all are equally long, that is
``(time · batch, features)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from graddoctor.observe._cells import Cell, Step, Weights

UNROLLED = "through"
"""What the node of an unrolled layer is called in the graph."""

_EVERY = 4  # steps after which an adjoint is brought back to size 1


@dataclass
class Trail:
    """Norms of adjoints by time step, of ``h`` and of ``c``, one a sample; ``scale``: log2 of their unit.

    Tensors stay on the device until `read`.
    """

    hidden: dict[int, Tensor] = field(default_factory=dict)
    cell: dict[int, Tensor] = field(default_factory=dict)
    scale: dict[int, Tensor] = field(default_factory=dict)

    def read(self, which: Mapping[int, Tensor], sizes: Sequence[int]) -> Tensor:
        """log10 of the norms, (steps, samples); -inf: zero, nan: not finite or not there."""
        table = torch.full((len(sizes), sizes[0]), torch.nan, dtype=torch.float64, device="cpu")
        if not which:
            return table
        norms = torch.cat(list(which.values())).log10()
        if self.scale:
            norms = norms + torch.cat([self.scale[time] for time in which]).double() * math.log10(2)
        norms = torch.where(norms == torch.inf, torch.nan, norms).cpu()
        begin = 0
        for time in which:
            table[time, : sizes[time]] = norms[begin : begin + sizes[time]]
            begin += sizes[time]
        return table

    def over_batch(self, steps: int) -> list[float]:
        """Norm of the adjoint of ``h`` over all samples by time step; zeros where none came."""
        if not self.hidden:
            return [0.0] * steps
        norms = torch.stack([torch.linalg.vector_norm(self.hidden[time]) for time in range(steps)])
        numbers: list[float] = norms.tolist()
        return numbers


class Unrolled:
    """One run of one layer in one direction.

    Attributes
    ----------
    module, layer, reverse
        Whose weights carry the state, and which of its layers this is.
    sizes
        How many samples run at each time step; they lie in order of falling length.
    steps
        By time step, filled when it has run.
    trail
        Where the next way back leaves its norms.
    given, recorded, connected
        Whether the first state came out of the graph, whether this run is in the graph itself, and whether an adjoint
        has come back through it.
    """

    def __init__(
        self, module: str, layer: int, cell: Cell, weights: Weights, sizes: Sequence[int], *, reverse: bool
    ) -> None:
        self.module, self.layer, self.reverse = module, layer, reverse
        self.cell, self.weights, self.sizes = cell, weights, tuple(sizes)
        self.steps: dict[int, Step] = {}
        self.trail = Trail()
        self.output: Tensor | None = None
        self.anchor = torch.zeros((), requires_grad=True, device="cpu")
        self.given = self.recorded = self.connected = False
        self._starts = (0, *accumulate(self.sizes))

    def __call__(self, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run on ``x`` (rows, gates · units): outputs (rows, outputs), last hidden and cell state of every sample."""
        self.given, self.recorded = h.requires_grad, torch.is_grad_enabled()
        outputs, h_n, c_n = _Through.apply(self, x, h, c, self.anchor)  # type: ignore[no-untyped-call]
        self.output = outputs
        return outputs, h_n, c_n

    @property
    def times(self) -> list[int]:
        """Time steps in the order in which the state passes them."""
        return list(range(len(self.sizes)))[:: -1 if self.reverse else 1]

    @property
    def lengths(self) -> Tensor:
        """Length of every sample."""
        counted = [sum(size > sample for size in self.sizes) for sample in range(self.sizes[0])]
        return torch.tensor(counted, device="cpu")

    def rows(self, time: int) -> slice:
        """Rows of one time step."""
        return slice(self._starts[time], self._starts[time + 1])

    def forward(self, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Go through time; a sample's state stays as it is where it does not run."""
        for time in self.times:
            n = self.sizes[time]
            step = self.steps[time] = self.cell.step(
                x[self.rows(time)], h[:n], None if c is None else c[:n], self.weights
            )
            h = _laid_over(step.h, h)
            c = None if step.c is None or c is None else _laid_over(step.c, c)
        return torch.cat([self.steps[time].h for time in range(len(self.sizes))]), h, c

    def back(self, direct: Tensor | None, dh: Tensor, dc: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take adjoints back through time: ``direct`` of the outputs (rows), ``dh`` and ``dc`` of the last state."""
        trail, into = self.trail, {}
        for time in reversed(self.times):
            n = self.sizes[time]
            arrived = dh[:n] if direct is None else dh[:n] + direct[self.rows(time)]
            trail.hidden[time] = _norms(arrived)
            back = self.cell.back(arrived, None if dc is None else dc[:n], self.steps[time], self.weights)
            if back.cell is not None:
                trail.cell[time] = _norms(back.cell)
            into[time] = back.x
            dh = _laid_over(back.h, dh)
            dc = _laid_over(back.c, dc) if back.c is not None and dc is not None else back.c
        return torch.cat([into[time] for time in range(len(self.sizes))]), dh, dc

    def lag(self, cotangent: Tensor) -> Trail:
        """Take a cotangent of every sample's last state back to its first, (samples, outputs).

        Every few steps it is brought back to size one by a power of two, which is exact: float32 ends at 38 decades.
        """
        trail = Trail()
        dh, dc, scale = cotangent, None, torch.zeros(len(cotangent), device=cotangent.device)
        if self.cell.keeps_cell:
            dc = torch.zeros(len(cotangent), self.weights.units, dtype=dh.dtype, device=dh.device)
        for count, time in enumerate(reversed(self.times)):
            n = self.sizes[time]
            trail.hidden[time], trail.scale[time] = _norms(dh[:n]), scale[:n]
            back = self.cell.back(dh[:n], None if dc is None else dc[:n], self.steps[time], self.weights)
            if back.cell is not None:
                trail.cell[time] = _norms(back.cell)
            dh = _laid_over(back.h, dh)
            dc = None if back.c is None or dc is None else _laid_over(back.c, dc)
            if count % _EVERY == _EVERY - 1:
                dh, dc, scale = _rescaled(dh, dc, scale)
        return trail

    def listen(self) -> Trail:
        """Begin a new trail for the adjoint that is sent back through the graph next."""
        self.trail, self.connected = Trail(), False
        return self.trail

    def forget(self) -> None:
        """Let go of all states: they hold the graph, and the graph holds this run, where no collector looks."""
        self.steps, self.output = {}, None

    def in_order(self) -> Iterator[Step]:
        """Yield the steps from the first time step to the last."""
        return (self.steps[time] for time in range(len(self.sizes)))


class _Through(torch.autograd.Function):
    """Ties an unrolled layer into the graph of the loss."""

    @staticmethod
    @override
    def forward(ctx: Any, run: Unrolled, x: Tensor, h: Tensor, c: Tensor | None, anchor: Tensor) -> Any:
        del anchor
        ctx.run = run
        ctx.set_materialize_grads(False)
        return run.forward(x, h, c)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *adjoints: Tensor | None) -> Any:
        run: Unrolled = ctx.run
        direct, dh, dc = adjoints
        like = run.steps[0]
        samples = run.sizes[0]
        if dh is None:
            dh = like.h.new_zeros(samples, like.h.shape[-1])
        if dc is None and like.c is not None:
            dc = like.c.new_zeros(samples, like.c.shape[-1])
        run.connected = True
        dx, dh, dc = run.back(direct, dh, dc)
        return None, dx, dh, dc, torch.zeros((), device="cpu")


def _laid_over(new: Tensor, old: Tensor) -> Tensor:
    """The samples that ran, and behind them the others."""
    return new if len(new) == len(old) else torch.cat((new, old[len(new) :]))


def _norms(rows: Tensor) -> Tensor:
    """Norm of every row in float64: squares of small numbers underflow float32."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
    return norms


def _rescaled(dh: Tensor, dc: Tensor | None, scale: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Bring every sample's adjoint to size one; zeros and what is not finite stay as they are."""
    size = dh.abs().amax(-1) if dc is None else torch.maximum(dh.abs().amax(-1), dc.abs().amax(-1))
    power = torch.where(size.isfinite() & (size > 0), size, 1.0).log2().round().clamp(-126, 126)  # of normal numbers
    factor = torch.exp2(-power).unsqueeze(-1)
    return dh * factor, None if dc is None else dc * factor, scale + power
