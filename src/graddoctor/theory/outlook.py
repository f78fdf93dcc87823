"""What theory expects of a network as it is initialized, and what that means for deeper ones of its kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from graddoctor.errors import GraddoctorError
from graddoctor.observe.budget import Budget, Row
from graddoctor.theory.criticality import CriticalInit, gain
from graddoctor.theory.layers import Layer
from graddoctor.theory.maps import depth_scale
from graddoctor.theory.reading import reach
from graddoctor.theory.recurrent import Recurrence
from graddoctor.theory.stack import Phase, PlainStack

LIMIT = 3.0
"""Decades that a gradient may lose or gain on its way; beyond, the command line ends with 1."""

_FAR = 1000  # layers to which a plain stack is followed, where it is asked how far a gradient reaches


@dataclass(frozen=True)
class Outlook:
    """What theory expects of a network as it is initialized.

    Attributes
    ----------
    budget
        Decades of gradient that each row gains or (negative) loses: the rows that `graddoctor.probe` measures.
    depth
        Layers or blocks that the gradient passes.
    asymptotic
        Decades a layer at the fixed point, which a deeper network of the kind tends to.
    chi
        χ₁ there: what a layer does to the squared norm of the gradient.
    phase
        ``"ordered"`` (it vanishes with depth), ``"critical"`` or ``"chaotic"`` (it explodes).
    stack
        The plain stack behind it: activation, σ_w and σ_b; of a network, what most of its layers are like. ``None``
        where no activation follows weights.
    plain
        Whether the network is such a stack. Where it has norms or skip connections, `asymptotic` is read off its rows.
    scatter
        Standard deviation of the total between draws of the weights, in decades; ``nan`` where it is not known.
    layers
        The network's layers of weights, with σ_w, σ_b and the activation that follows.
    recurrent
        Its recurrent cells: decades that a gradient loses for each step back in time.
    unknown
        Modules without a theory: their gains are measured.
    name
        What reports call it.
    """

    budget: Budget
    depth: int
    asymptotic: float
    chi: float
    phase: Phase
    stack: PlainStack | None = None
    plain: bool = True
    scatter: float = math.nan
    layers: tuple[Layer, ...] = ()
    recurrent: tuple[Recurrence, ...] = ()
    unknown: tuple[str, ...] = ()
    name: str = ""
    classes: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The budget's rows, from the input to the loss."""
        return self.budget.rows

    @property
    def total(self) -> float:
        """Decades from the loss to the first layer: negative, it vanishes; ``-inf`` where nothing gets through."""
        return self.budget.total if self.budget.cut is None else -math.inf

    @property
    def decades_per_layer(self) -> float:
        """The total divided by the depth."""
        return self.total / self.depth

    @property
    def gradient_scale(self) -> float:
        """ξ_∇: layers in which the squared gradient changes by a factor e."""
        return depth_scale(self.chi)

    @property
    def correlation_scale(self) -> float:
        """ξ_c: layers in which what tells two samples apart shrinks by a factor e; ``nan`` where no theory tells."""
        return self.stack.correlation_scale if self.stack is not None and self.plain else math.nan

    @property
    def length_scale(self) -> float:
        """ξ_q: the same of the distance from the length that the layers tend to."""
        return self.stack.length_scale if self.stack is not None and self.plain else math.nan

    @property
    def initialization(self) -> CriticalInit | None:
        """The scale of weights and biases that puts a plain stack of this activation at criticality."""
        try:
            return None if self.stack is None else gain(self.stack.activation)
        except (GraddoctorError, ArithmeticError, ValueError):  # none: it has no slope, or grows without bounds
            return None

    def reach(self, decades: float) -> float:
        """Return the layers, counted from the loss, after which the gradient has changed so much (``inf``: never)."""
        if not (math.isfinite(decades) and decades > 0):
            raise GraddoctorError(f"expected a number of decades above 0, got {decades!r}")
        return 0.0 if self.budget.cut is not None else reach(self._followed, self.asymptotic, decades)

    @cached_property
    def _followed(self) -> tuple[Row, ...]:
        """The rows, and of a stack that was asked for by its numbers those of a much deeper one."""
        if self.stack is None or self.layers:
            return self.rows
        return self.stack.budget(self.stack.through(max(self.depth, _FAR))).rows

    @property
    def exit_code(self) -> int:
        """0 up to three decades either way, 1 beyond."""
        return 0 if abs(self.total) <= LIMIT else 1
