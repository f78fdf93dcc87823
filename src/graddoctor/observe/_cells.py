"""The cells of recurrent networks in elementary operations: one step forward, and the same step back.

Symbols as in the papers: ``h`` hidden state, ``c`` cell state, ``x`` what the input adds (its projection with the input
bias, all gates side by side), and for a loss L the adjoints ``dh`` = ∂L/∂h, ``dc`` = ∂L/∂c. Rows are samples.

Sources: Elman 1990; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000 and the projection of Sak et
al. 2014; Cho et al. 2014 in the form of cuDNN, which resets after the matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override


@dataclass(frozen=True)
class Weights:
    """What carries the state: ``hidden`` (gates · units, outputs), its bias, an LSTM's ``project`` (outputs, units)."""

    hidden: Tensor
    bias: Tensor | None = None
    project: Tensor | None = None

    @property
    def units(self) -> int:
        """Size of the state before a projection."""
        return int(self.project.shape[1] if self.project is not None else self.hidden.shape[1])


@dataclass(frozen=True)
class Step:
    """One step, as far as its way back and its readings need it.

    ``factors`` makes the parts of the derivative; they are made once, and only when a way back asks for them.
    """

    h: Tensor
    c: Tensor | None
    factors: Callable[[], Mapping[str, Tensor]]
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    squashed: Tensor | None = None  # the values of a tanh that the state passes

    @cached_property
    def parts(self) -> Mapping[str, Tensor]:
        """The factors, by name."""
        with torch.no_grad():
            return self.factors()

    def of(self, sample: int) -> Step:
        """Take one sample's step, as a batch of one."""
        one = slice(sample, sample + 1)
        c = None if self.c is None else self.c[one]
        return Step(self.h[one], c, lambda: {name: part[one] for name, part in self.parts.items()})


@dataclass(frozen=True)
class Back:
    """Adjoints on the near side of a step: of ``x``, of the state before it, and all that reached its cell state."""

    x: Tensor
    h: Tensor
    c: Tensor | None = None
    cell: Tensor | None = None


class Cell(ABC):
    """A kind of cell."""

    blocks: int
    kind: str
    keeps_cell = False

    @abstractmethod
    def step(self, x: Tensor, h: Tensor, c: Tensor | None, weights: Weights) -> Step:
        """Go one step forward."""

    @abstractmethod
    def back(self, dh: Tensor, dc: Tensor | None, step: Step, weights: Weights) -> Back:
        """Go the step back: ``dh`` and ``dc`` are all that reaches its outputs. Many adjoints of one sample do too."""

    def radius(self, weights: Weights) -> float:
        """Spectral radius of the matrix that feeds the state back; of gated cells, of the block of the candidate."""
        block = weights.hidden.chunk(self.blocks)[self._candidate].double()
        square = block if weights.project is None else weights.project.double() @ block
        return float(torch.linalg.eigvals(square).abs().max()) if bool(square.isfinite().all()) else float("nan")

    _candidate = 0


class Vanilla(Cell):
    """``h' = φ(x + W h + b)`` with φ = tanh or ReLU."""

    blocks = 1

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @override
    def step(self, x: Tensor, h: Tensor, c: Tensor | None, weights: Weights) -> Step:
        before = _plus(x, h, weights)
        tanh = self.kind == "rnn_tanh"
        h = before.tanh() if tanh else before.relu()
        parts = (lambda: {"slope": 1 - h * h}) if tanh else (lambda: {"slope": (h > 0).to(h.dtype)})
        return Step(h, None, parts, squashed=h if tanh else None)

    @override
    def back(self, dh: Tensor, dc: Tensor | None, step: Step, weights: Weights) -> Back:
        da = dh * step.parts["slope"]
        return Back(da, da @ weights.hidden)


class Lstm(Cell):
    """``c' = f c + i g``, ``h' = o tanh(c')``; gates in torch's order i, f, g, o."""

    blocks, kind, keeps_cell = 4, "lstm", True
    _candidate = 2

    @override
    def step(self, x: Tensor, h: Tensor, c: Tensor | None, weights: Weights) -> Step:
        assert c is not None  # noqa: S101 - an LSTM is never called without
        before = _plus(x, h, weights).chunk(4, dim=-1)
        i, f, o = (before[place].sigmoid() for place in (0, 1, 3))
        g = before[2].tanh()
        after = f * c + i * g
        squashed = after.tanh()
        shown = o * squashed
        parts = lambda: {  # noqa: E731 - what comes of the names above
            "i": g * i * (1 - i),
            "f": c * f * (1 - f),
            "g": i * (1 - g * g),
            "o": squashed * o * (1 - o),
            "keep": f,
            "show": o * (1 - squashed * squashed),
        }
        h = shown if weights.project is None else shown @ weights.project.t()
        return Step(h, after, parts, {"forget": f, "input": i, "output": o}, squashed)

    @override
    def back(self, dh: Tensor, dc: Tensor | None, step: Step, weights: Weights) -> Back:
        part = step.parts
        shown = dh if weights.project is None else dh @ weights.project
        through = shown * part["show"]
        cell = through if dc is None else dc + through
        da = torch.cat((cell * part["i"], cell * part["f"], cell * part["g"], shown * part["o"]), dim=-1)
        return Back(da, da @ weights.hidden, cell * part["keep"], cell)


class Gru(Cell):
    """``h' = (1 - z) n + z h`` with ``n = tanh(x_n + r (W_n h + b_n))``; gates in torch's order r, z, n."""

    blocks, kind = 3, "gru"
    _candidate = 2

    @override
    def step(self, x: Tensor, h: Tensor, c: Tensor | None, weights: Weights) -> Step:
        fed = h @ weights.hidden.t() if weights.bias is None else torch.addmm(weights.bias, h, weights.hidden.t())
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, dim=-1), fed.chunk(3, dim=-1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + r * h_n).tanh()

        def parts() -> dict[str, Tensor]:
            into = (1 - z) * (1 - n * n)
            return {"n": into, "z": (h - n) * z * (1 - z), "r": into * h_n * r * (1 - r), "reset": r, "keep": z}

        return Step(n + z * (h - n), None, parts, {"update": z, "reset": r}, n)

    @override
    def back(self, dh: Tensor, dc: Tensor | None, step: Step, weights: Weights) -> Back:
        part = step.parts
        dr, dz, dn = dh * part["r"], dh * part["z"], dh * part["n"]
        fed = torch.cat((dr, dz, dn * part["reset"]), dim=-1)
        return Back(torch.cat((dr, dz, dn), dim=-1), fed @ weights.hidden + dh * part["keep"])


def _plus(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """``x + W h + b``; the bias is in ``x`` already where it does not stand here."""
    fed = torch.addmm(x, h, weights.hidden.t())
    return fed if weights.bias is None else fed + weights.bias


CELLS: Mapping[str, Cell] = {cell.kind: cell for cell in (Vanilla("rnn_tanh"), Vanilla("rnn_relu"), Lstm(), Gru())}


def jacobian(cell: Cell, step: Step, weights: Weights) -> Tensor:
    """Transposed Jacobian of one sample's step, (state, state): of (h, c) for an LSTM, of h otherwise."""
    outputs = step.h.shape[-1]
    cells = step.c.shape[-1] if step.c is not None else 0
    basis = torch.eye(outputs + cells, dtype=step.h.dtype, device=step.h.device)
    back = cell.back(basis[:, :outputs], basis[:, outputs:] if cells else None, step, weights)
    return torch.cat((back.h, back.c), dim=1) if back.c is not None else back.h
