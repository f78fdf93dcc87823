"""From a recorded forward pass to the law of every tensor in it, and to how gradients pass back.

Whatever is a function of one pre-activation, entry by entry, is evaluated as one function, in however many operators it
is written. Where there is no rule, the law is read off the batch, and so is the gain of the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graddoctor.errors import RecipeError
from graddoctor.observe.tape import Call, Ref, Tape
from graddoctor.theory.composite import DEGREE, SMALLEST, Composite, nodes, paired, spectra
from graddoctor.theory.laws import Law, flat, measured
from graddoctor.theory.rules import PAIRS, RULES
from graddoctor.theory.rules.step import Scene, Step

_EVEN = 1.5  # a map of lengths that varies by a smaller factor is taken for even
_POINTS = 7
_ROUNDING = 1e-12
_SMALLEST = 1e-12  # lengths are told apart down to this share of the longest


@dataclass(frozen=True)
class Slopes:
    """How a gradient passes back through a composite.

    Attributes
    ----------
    square
        E[φ'²] at the root, as a map over samples and places.
    along
        E[φ'(u)φ'(v)] at two places of a sample.
    inner
        By index: E of the squared slope with regard to an intermediate result.
    look
        All slopes at the points of a quadrature.
    """

    square: Tensor
    along: float
    inner: dict[int, float]
    look: _Look


@dataclass
class Propagation:
    """What is known of every tensor.

    Attributes
    ----------
    composites
        By the index of a tensor: which function of which root it is.
    steps
        By index, for the others: what the rule of its call said.
    unknown
        Calls for which there is no theory.
    """

    samples: int
    composites: dict[int, Composite] = field(default_factory=dict)
    steps: dict[int, Step] = field(default_factory=dict)
    unknown: list[Call] = field(default_factory=list)
    known: dict[int, Law] = field(default_factory=dict)
    _slopes: dict[int, Slopes] = field(default_factory=dict)

    def law(self, index: int) -> Law:
        """The law of a tensor; one within a composite is integrated when it is asked for."""
        if index not in self.known:
            self.known[index], self._slopes[index] = _integrated(self.composites[index], index, self)
        return self.known[index]

    def slopes(self, index: int) -> Slopes:
        """How a gradient passes back from the result of a composite to its root."""
        self.law(index)
        return self._slopes[index]


def propagate_tape(tape: Tape) -> Propagation:
    """Follow all calls of a recorded forward pass."""
    found = Propagation(tape.now.samples)
    scene = Scene(found.samples, found.law, _rewritten(tape.calls))
    images = _images(tape.calls)
    for index, tensor in tape.sources.items():
        found.known[index] = measured(tensor, found.samples, channels=True if index in images else None)
    for call in tape.calls:
        composite = _composite(call, found)
        if composite is not None:
            found.composites[call.out.index] = composite
        else:
            _take(call, _step(call, scene), found)
    return found


def _images(calls: Sequence[Call]) -> set[int]:
    """Tensors that a convolution reads: their features lie on axis 1."""
    return {ref.index for call in calls if call.kind == "convolution" for ref in call.refs()}


def _rewritten(calls: Sequence[Call]) -> frozenset[int]:
    """Tensors into which more is written later."""
    befores = (call.arguments[0] for call in calls if call.kind.startswith("write"))
    return frozenset(before.index for before in befores if isinstance(before, Ref))


def _step(call: Call, scene: Scene) -> Step | None:
    rule = RULES.get(call.kind) or PAIRS.get(call.kind)
    return rule(call, scene) if rule is not None else None


def _take(call: Call, step: Step | None, found: Propagation) -> None:
    if step is None:
        found.unknown.append(call)
        laws = tuple(None if t is None else measured(t, found.samples) for t in call.tensors)
        step = Step(laws)
    for ref, tensor, law in zip(call.results, call.tensors, (*step.laws, *(None,) * len(call.results)), strict=False):
        if ref is None or tensor is None:
            continue
        found.known[ref.index] = measured(tensor, found.samples) if law is None else law
        found.steps[ref.index] = step


def _composite(call: Call, found: Propagation) -> Composite | None:
    """The function of one tensor that a call ends, if it is one."""
    if not _pointwise(call):
        return None
    refs = list(dict.fromkeys(call.refs()))
    if any(ref.shape != call.out.shape for ref in refs):
        return None
    parts = [found.composites.get(ref.index, Composite(ref, ())) for ref in refs]
    if len({part.root.index for part in parts}) != 1:
        return None
    return parts[0].then(call, parts[1:])


def _pointwise(call: Call) -> bool:
    if call.kind in {"prelu", "detach"}:
        return True
    if torch.Tag.pointwise not in call.function.tags or torch.Tag.nondeterministic_seeded in call.function.tags:
        return False
    constants = [value for value in (*call.arguments, *call.options.values()) if isinstance(value, Tensor)]
    return all(value.numel() == 1 for value in constants)


def _integrated(composite: Composite, out: int, found: Propagation) -> tuple[Law, Slopes]:
    """Integrate a composite against the law of its root."""
    root = found.law(composite.root.index).shaped(composite.root.shape)
    if not math.isfinite(root.average):
        where = composite.calls[0].module or composite.name
        raise RecipeError(
            f"the signal that reaches {where!r} is beyond all numbers: the weights before it are too large"
        )
    lengths = _lengths(root.square)
    looks = [_Look(composite, out, float(length), root.mean) for length in lengths]
    middle = looks[0] if len(looks) == 1 else _Look(composite, out, root.average, root.mean)
    between, along = (middle.correlation(one) for one in (root.between, root.along))
    function, slope = spectra(torch.stack((middle.value, middle.slope)), middle.weights, middle.standard)
    if root.fixed:  # the same everywhere, so that its function is too
        function, slope = (_alone(middle.over(one)) for one in (middle.value, middle.slope))
    law = Law(
        square=_mapped(root.square, lengths, [look.over(look.value) for look in looks]),
        mean=float(middle.weights @ middle.value),
        between=paired(function, between),
        along=paired(function, along),
        channels=root.channels,
        fixed=root.fixed,
        keys=root.keys,
    )
    slopes = _mapped(root.square, lengths, [look.over(look.slope) for look in looks])
    inner = {index: middle.over(one) for index, one in middle.slopes.items()}
    return law, Slopes(slopes, paired(slope, along), inner, middle)


def _alone(square: float) -> Tensor:
    """Spectrum of a constant."""
    return torch.tensor([square] + [0.0] * DEGREE, dtype=torch.float64)


class _Look:
    """A composite at the points of a quadrature, for a root of this E[z²] and mean."""

    def __init__(self, composite: Composite, out: int, square: float, mean: float) -> None:
        self.mean = min(max(mean, -(square**0.5)), square**0.5)
        self.variance = max(square - self.mean**2, 0.0)
        x, self.weights = nodes(self.variance, self.mean)
        values = composite.values(x)
        self.slopes = composite.slopes(values, out)
        self.value, self.slope = values[out], self.slopes[composite.root.index]
        self._leave_out(self.value.isfinite() & self.slope.isfinite())
        self.standard = (x - self.mean) / max(self.variance, SMALLEST) ** 0.5

    def _leave_out(self, sound: Tensor) -> None:
        """Leave out points at which a function has no value: roots of less than zero, where the root is no Gaussian."""
        if bool(sound.all()) or not bool(sound.any()):
            return
        self.weights = torch.where(sound, self.weights, 0.0) / float(self.weights[sound].sum())
        zero = torch.zeros(())
        self.value, self.slope = (torch.where(sound, one, zero) for one in (self.value, self.slope))
        self.slopes = {index: torch.where(sound, one, zero) for index, one in self.slopes.items()}

    def over(self, function: Tensor) -> float:
        """E[f²]."""
        return float(self.weights @ function.square())

    def correlation(self, product: float) -> float:
        """Correlation of two roots with this mean product; what hardly varies is the same everywhere."""
        return (product - self.mean**2) / self.variance if self.variance > _ROUNDING * self.mean**2 else 1.0

    def at_largest(self, of: int) -> float:
        """E[φ'²] where the root is the largest of so many."""
        below = 0.5 * (1 + torch.erf(self.standard / 2**0.5))
        density = self.weights * below ** (of - 1)
        return float(density @ self.slope.square()) / max(float(density.sum()), 1e-300)


def _lengths(square: Tensor) -> Tensor:
    """Lengths at which to integrate: one where the map is even, else a few that span it."""
    high = float(square.max())
    low = max(float(square.min()), high * _SMALLEST)
    if high <= low * _EVEN:
        return square.mean().reshape(1)
    return torch.logspace(math.log10(low), math.log10(high), _POINTS, dtype=torch.float64)


def _mapped(square: Tensor, lengths: Tensor, results: Sequence[float]) -> Tensor:
    """Read a function of the length off at every entry of a map."""
    if len(lengths) == 1:
        return flat(results[0], square.dim())
    known = torch.tensor(results, dtype=torch.float64)
    place = square.clamp(lengths[0], lengths[-1]).log()
    grid = lengths.log()
    right = torch.searchsorted(grid, place.contiguous()).clamp(1, len(grid) - 1)
    share = (place - grid[right - 1]) / (grid[right] - grid[right - 1])
    read: Tensor = known[right - 1] * (1 - share) + known[right] * share
    return read
