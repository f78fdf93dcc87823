"""Recurrent cells at initialization: decades of gradient lost for each step back in time, from the gates' expectations.

A step back multiplies the gradient with carry + random part: the carry of each unit is the mean opening of its gate
(forget gate of an LSTM, update gate of a GRU, none in a plain cell), the random part a product with recurrent weights
whose squared gain is r² (Chen, Pennington and Schoenholz 2018). The same weights act at every step, so what remains
after many steps is the edge of the spectrum of diag(f) + r × random: E[r²/(λ - f)²] = 1, which is λ = f + r where all
gates are alike, and r without a carry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from torch import Tensor, nn

from graddoctor.theory.activations import Activation, Array, resolve
from graddoctor.theory.quadrature import gaussian_rule

_ROUNDS = 60  # a gate that keeps 95 % of a squared state has come to rest by then
_IDENTITY = 0.5  # share of the recurrent weights' norm on the diagonal that no random matrix has


@dataclass(frozen=True)
class Recurrence:
    """One layer of recurrent cells.

    Attributes
    ----------
    name
        Of its module, with the layer where it has several.
    kind
        ``"RNN_TANH"``, ``"RNN_RELU"``, ``"LSTM"`` or ``"GRU"``.
    decades_per_lag
        Change of the gradient's norm for each step back, after many; ``nan`` where the recurrent weights are no random
        matrix (an identity), of which there is no theory here.
    carry
        Mean opening of the gate that keeps the state; 0 in a plain cell.
    """

    name: str
    kind: str
    decades_per_lag: float
    carry: float

    def horizon(self, decades: float = 1.0) -> float:
        """Return the steps back after which so many decades are lost; ``inf``: never."""
        lost = -self.decades_per_lag
        return decades / lost if lost > 0 else math.inf


def recurrences(model: nn.Module, squares: Mapping[str, float] | None = None) -> tuple[Recurrence, ...]:
    """List the recurrent layers of a network.

    Parameters
    ----------
    model
        Whose ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` are looked at.
    squares
        By module name: E[x²] of what it is given (1 where nothing is said).
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            found += _layers(name, module, (squares or {}).get(name, 1.0))
    return tuple(found)


def _layers(name: str, module: nn.RNNBase, square: float) -> list[Recurrence]:
    found = []
    for layer in range(module.num_layers):
        cell = _Cell(module, layer, square)
        lag, carry, square = cell.look()
        title = name if module.num_layers == 1 else f"{name} layer {layer}"
        found.append(Recurrence(title, module.mode, lag, carry))
    return found


class _Cell:
    """Second moments of one layer's weights, gate by gate."""

    def __init__(self, module: nn.RNNBase, layer: int, square: float) -> None:
        self.mode, self.hidden, self.square = module.mode, module.hidden_size, square
        count = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
        within = _chunks(getattr(module, f"weight_hh_l{layer}"), count)
        entering = _chunks(getattr(module, f"weight_ih_l{layer}"), count)
        self.gain = [w.shape[1] * float(np.square(w).mean()) for w in within]
        self.input = [w.shape[1] * float(np.square(w).mean()) * square for w in entering]
        none = np.zeros(count * self.hidden)
        self.biases = [_numpy(getattr(module, f"bias_{way}_l{layer}")) if module.bias else none for way in ("ih", "hh")]
        self.shift = list(np.split(self.biases[0] + self.biases[1], count))
        self.structured = module.proj_size > 0 or any(_structured(w) for w in within)

    def look(self) -> tuple[float, float, float]:
        """Decades per lag, mean carry, and E[h²] for the layer above."""
        carry, random, square = {"LSTM": self._lstm, "GRU": self._gru}.get(self.mode, self._plain)()
        lag = math.nan if self.structured else _log10(edge(carry, random))
        return lag, float(carry.mean()), square

    def _moment(self, gate: int, phi: Activation, state: float) -> tuple[float, float]:
        """E[φ²] and E[φ'²] of a gate, over units and inputs."""
        shift = self.shift[gate]
        x, w = gaussian_rule(phi, self.gain[gate] * state + self.input[gate] + float(shift.var()))
        x = x + float(shift.mean())
        return float(w @ phi.value(x) ** 2), float(w @ phi.slope(x) ** 2)

    def _opening(self, gate: int, state: float) -> Array:
        """Mean opening of a gate, unit by unit."""
        phi = resolve("sigmoid")
        x, w = gaussian_rule(phi, self.gain[gate] * state + self.input[gate])
        return np.asarray(phi.value(x[None] + self.shift[gate][:, None]) @ w)

    def _plain(self) -> tuple[Array, float, float]:
        phi = resolve("tanh" if self.mode == "RNN_TANH" else "relu")
        state = 0.0
        for _ in range(_ROUNDS):
            state = min(self._moment(0, phi, state)[0], 1e9)
        return np.zeros(1), self.gain[0] * self._moment(0, phi, state)[1], state

    def _gru(self) -> tuple[Array, float, float]:
        reset, update, new = 0, 1, 2
        sigmoid, tanh = resolve("sigmoid"), resolve("tanh")
        own = np.split(self.biases[1], 3)[new]
        outer = np.split(self.biases[0], 3)[new]
        state = candidate = slope = inner = 0.0
        for _ in range(_ROUNDS):
            opened, steep = self._moment(reset, sigmoid, state)
            inner = self.gain[new] * state + float(np.square(own).mean())
            x, w = gaussian_rule(tanh, opened * inner + self.input[new] + float(np.square(outer).mean()))
            candidate, slope = float(w @ tanh.value(x) ** 2), float(w @ tanh.slope(x) ** 2)
            kept, closed = self._moment(update, sigmoid, state)[0], self._closed(update, state)
            state = closed * candidate + kept * state
        to_update = self._moment(update, sigmoid, state)[1] * (state + candidate) * self.gain[update]
        to_new = closed * slope
        random = to_update + to_new * (opened * self.gain[new] + steep * inner * self.gain[reset])
        return self._opening(update, state), random, state

    def _closed(self, gate: int, state: float) -> float:
        """E[(1 - σ)²]."""
        open_ = float(self._opening(gate, state).mean())
        return 1 - 2 * open_ + self._moment(gate, resolve("sigmoid"), state)[0]

    def _lstm(self) -> tuple[Array, float, float]:
        enter, forget, new, out = range(4)
        sigmoid, tanh = resolve("sigmoid"), resolve("tanh")
        state = cell = 0.0
        for _ in range(_ROUNDS):
            i, f, g, o = (
                self._moment(gate, tanh if gate == new else sigmoid, state) for gate in (enter, forget, new, out)
            )
            cell = f[0] * cell + i[0] * g[0]
            x, w = gaussian_rule(tanh, cell)
            shown, bend = float(w @ tanh.value(x) ** 2), float(w @ tanh.slope(x) ** 2)
            state = o[0] * shown
        into_cell = self.gain[new] * i[0] * g[1] + self.gain[forget] * f[1] * cell + self.gain[enter] * i[1] * g[0]
        return self._opening(forget, state), into_cell * o[0] * bend, state


def edge(carry: Array, random: float) -> float:
    """Largest λ with E[r²/(λ - f)²] = 1, where r² = ``random`` and f runs over ``carry``."""
    top = float(np.max(carry))
    if random <= 0:
        return top
    rho = math.sqrt(random)

    def excess(above: float) -> float:
        return float(np.mean(random / (top + above - carry) ** 2)) - 1

    return top + float(brentq(excess, rho / math.sqrt(len(carry)) / 2, rho + 1e-12, xtol=1e-12))


def _chunks(weight: Tensor, count: int) -> list[Array]:
    return list(np.split(_numpy(weight), count))


def _numpy(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _structured(weight: Array) -> bool:
    if weight.shape[0] != weight.shape[1]:
        return False
    norm = float(np.linalg.norm(weight))
    return norm > 0 and abs(float(np.trace(weight))) / (norm * math.sqrt(len(weight))) > _IDENTITY


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf
