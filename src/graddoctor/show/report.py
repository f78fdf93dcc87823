"""A report: everything that any face of a checkup shows, as plain frozen data that survives JSON both ways.

Conventions: *decades* are log10 units, negative where gradient is lost on its way back (or signal on its way forward).
A number that does not exist is ``None`` and, where that matters, something beside it says why. Rows of tables run from
the early end of the network (the input) to the late end (the loss).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from graddoctor.errors import GraddoctorError
from graddoctor.show.faces import Faces
from graddoctor.terms import Finding, Severity, Trial

SCHEMA = 1
"""Version of the JSON form; raised when a field changes its meaning or goes away, not when one is added."""

HEALTHY_BAND = (1e-4, 1e-2)
"""Update-to-weight ratios that are unremarkable: a decade to either side of the customary 1e-3."""

Verdict = Literal["healthy", "sick", "inconclusive"]
CutKind = Literal["zero", "nonfinite"]
Cells = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Part:
    """A piece of a budget row: one operation, or one of the two ways through a residual block.

    Parts without a ``share`` follow one another, and their decades add up to the row. Parts with a ``share`` run side
    by side (skip and branch), and their shares add up to one; a share may be negative where the two work against each
    other. ``parts`` opens the inside of a branch, which is a budget of its own.
    """

    name: str
    kind: str
    decades: float | None = None
    share: float | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Row:
    """One stretch between two tensors that all gradient has to pass.

    Attributes
    ----------
    name, kind
        What a reader calls it (``"layers.3"``) and what it is (``"linear"``, ``"sigmoid"``, ``"residual"``, …).
    modules
        The modules whose operations lie in it.
    decades
        Gain of the gradient's norm on the way back, in decades; ``None`` where the row ends the chain (zero, NaN).
    size_decades
        The part of it that only the number of elements makes; no cause.
    signal_decades
        Gain of the spread between samples over the same stretch on the way forward; ``None`` where not measured.
    predicted_decades
        What mean-field theory expects, where it says anything.
    parts
        The row, opened.
    """

    name: str
    kind: str
    decades: float | None
    modules: tuple[str, ...] = ()
    size_decades: float = 0.0
    signal_decades: float | None = None
    predicted_decades: float | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class LossShare:
    """One term of a loss that is a sum: its share of the gradient at the early end, and the modules that it reads.

    The shares of all terms add up to one; one is negative where its term works against the others.
    """

    name: str
    share: float
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waterfall:
    """The gradient budget at the start of training, rows from the early end to the late end.

    ``total`` is the sum of the finite rows, ``cut`` the name of the row that ends the chain (``cut_kind``: by an exact
    zero, or by something not finite). ``by_kind`` sums the decades by kind of operation. ``signal_total`` is ``None``
    with a ``signal_reason`` where the forward ledger could not be kept. ``losses`` holds the terms of the loss where it
    has several. ``predicted_total`` is what mean-field theory expects of all rows; ``None`` where it was not asked.
    """

    rows: tuple[Row, ...]
    total: float
    signal_total: float | None = None
    signal_reason: str = ""
    cut: str | None = None
    cut_kind: CutKind | None = None
    by_kind: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[LossShare, ...] = ()
    predicted_total: float | None = None


@dataclass(frozen=True)
class HeatMap:
    """Norm of the gradient, depth by step, in log10.

    ``values[i][j]`` belongs to ``names[i]`` at ``steps[j]``; ``None`` where nothing was seen, or where the pair
    ``(i, j)`` stands in ``zero_cells`` (exactly zero) or ``nonfinite_cells`` (NaN or infinite).
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    values: Cells
    zero_cells: tuple[tuple[int, int], ...] = ()
    nonfinite_cells: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        _expect_grid("heat map", self.names, self.steps, self.values)

    @classmethod
    def from_norms(cls, names: Sequence[str], steps: Sequence[int], norms: Sequence[Sequence[float | None]]) -> HeatMap:
        """Take norms as they were read: positive, zero, not finite, or ``None`` (not seen)."""
        cells = [(i, j, norm) for i, row in enumerate(norms) for j, norm in enumerate(row) if norm is not None]
        return cls(
            names=tuple(names),
            steps=tuple(steps),
            values=tuple(tuple(_log10(norm) for norm in row) for row in norms),
            zero_cells=tuple((i, j) for i, j, norm in cells if norm == 0),
            nonfinite_cells=tuple((i, j) for i, j, norm in cells if not math.isfinite(norm)),
        )


@dataclass(frozen=True)
class ActivationState:
    """What a nonlinearity gave at one step; shares from 0 to 1, ``None`` where the notion makes no sense for its kind.

    ``dead``: units with neither output nor slope on any sample. ``saturated``: values on a flat part. ``slope``: mean
    squared slope as a share of the largest possible one. ``edges`` (n + 1) and ``shares`` (n) are its histogram.
    """

    step: int
    dead: float | None = None
    saturated: float | None = None
    slope: float | None = None
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and len(self.edges) != len(self.shares) + 1:
            message = (
                f"a histogram of {len(self.shares)} bins needs {len(self.shares) + 1} edges, got {len(self.edges)}"
            )
            raise GraddoctorError(message)


@dataclass(frozen=True)
class LayerActivation:
    """One use of a nonlinearity, in the order of the forward pass, at the start and at the end of what was seen."""

    name: str
    kind: str
    start: ActivationState | None = None
    end: ActivationState | None = None


@dataclass(frozen=True)
class LagProfile:
    """What is left of a gradient after a time lag, as one step of training had it.

    Attributes
    ----------
    step
        Of training.
    lags, decades
        Time lags, and log10 of what is left relative to lag 0; ``None`` where nothing is, or it is not finite. Of long
        sequences some lags only.
    total, per_step
        Decades from lag 0 to the largest lag at which there is a gradient, and over each time step of it.
    horizon_1, horizon_3
        Lag at which one and three decades are lost; ``None``: never within the sequence.
    times, gates
        Time steps, and the mean openness of each gate there, from 0 to 1.
    notes
        Sentences that belong to the numbers.
    """

    step: int
    lags: tuple[int, ...]
    decades: tuple[float | None, ...]
    total: float
    per_step: float
    horizon_1: int | None = None
    horizon_3: int | None = None
    times: tuple[int, ...] = ()
    gates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.lags) != len(self.decades):
            message = f"a profile needs a number for each lag: {len(self.lags)} lags, {len(self.decades)} numbers"
            raise GraddoctorError(message)


@dataclass(frozen=True)
class ThroughTime:
    """The gradient through time of one recurrent layer, loop or input, at the start and at the end of what was seen.

    ``kind`` is the cell (``"lstm"``, ``"loop"``, …) or ``"attention"``; ``source`` what the gradient is taken at:
    ``"hidden"`` states or the ``"input"``.
    """

    name: str
    module: str
    kind: str
    source: str
    steps: int
    start: LagProfile | None = None
    end: LagProfile | None = None


@dataclass(frozen=True)
class AttentionState:
    """What an attention did at one step, on one batch; ``None`` where a figure does not exist.

    ``logit_max`` and ``logit_std``: of the logits that its mask allows. ``entropy``: of the rows, a share of the
    logarithm of the number of keys allowed. ``saturated``: share of the rows with a probability above 0.99.
    ``similarity`` and ``mixed``: mean cosine between two tokens, of the values that go in and of what comes out.
    ``rank``: effective rank of these values.
    """

    step: int
    logit_max: float | None = None
    logit_std: float | None = None
    entropy: float | None = None
    saturated: float | None = None
    similarity: float | None = None
    mixed: float | None = None
    rank: float | None = None


@dataclass(frozen=True)
class LayerAttention:
    """One use of an attention, in the order of the forward pass, at the start and at the end of what was seen."""

    name: str
    heads: int
    keys: int
    start: AttentionState | None = None
    end: AttentionState | None = None


@dataclass(frozen=True)
class UpdateRatios:
    """How far a step moved each parameter, ``‖update‖ / ‖weight‖``, at the probed steps.

    ``values[i][j]`` belongs to ``names[i]`` at ``steps[j]``; ``None`` where no update was seen, or it was zero or not
    finite. ``band`` is what counts as unremarkable.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    values: Cells
    band: tuple[float, float] = HEALTHY_BAND

    def __post_init__(self) -> None:
        _expect_grid("table of update ratios", self.names, self.steps, self.values)

    @classmethod
    def from_ratios(
        cls,
        names: Sequence[str],
        steps: Sequence[int],
        ratios: Sequence[Sequence[float | None]],
        band: tuple[float, float] = HEALTHY_BAND,
    ) -> UpdateRatios:
        """Take ratios as they were read: positive, zero, not finite, or ``None`` (not seen)."""
        positive = tuple(tuple(ratio if _log10(ratio) is not None else None for ratio in row) for row in ratios)
        return cls(tuple(names), tuple(steps), positive, band)


@dataclass(frozen=True)
class LossCurve:
    """The training loss; ``None`` where it was not finite.

    ``baseline`` is the loss of the best constant predictor: a net that does not get under it has learned nothing.
    ``smoothed`` is a running mean of the same length, empty where the curve is too short to need one.
    """

    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    baseline: float | None = None
    smoothed: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values) or len(self.smoothed) not in {0, len(self.values)}:
            message = (
                f"a loss curve needs as many values as steps: {len(self.steps)} steps, {len(self.values)} values, "
                f"{len(self.smoothed)} smoothed"
            )
            raise GraddoctorError(message)

    @property
    def first_nonfinite(self) -> int | None:
        """The first step whose loss was not finite."""
        return next((step for step, value in zip(self.steps, self.values, strict=True) if value is None), None)

    @classmethod
    def from_values(
        cls, losses: Sequence[float], steps: Sequence[int] | None = None, baseline: float | None = None
    ) -> LossCurve:
        """Take losses as they were read, and smooth them over a twentieth of their length."""
        values = tuple(float(loss) if math.isfinite(loss) else None for loss in losses)
        width = len(values) // 20
        return cls(
            steps=tuple(range(len(values)) if steps is None else steps),
            values=values,
            baseline=baseline if baseline is not None and math.isfinite(baseline) else None,
            smoothed=_running_mean(values, width) if width > 1 else (),
        )


@dataclass(frozen=True)
class Event:
    """Something that happened at one step: the first loss that is not finite, a layer that died."""

    step: int
    text: str
    severity: Severity = Severity.NOTE


@dataclass(frozen=True)
class Coverage:
    """How much of the training was seen, at what cost.

    ``steps_total`` is what the recipe asks for (``None`` where unknown); ``aborted`` says that a limit or Ctrl-C ended
    it early, ``reason`` which. ``experimented`` is false where experiments were off: nothing is confirmed then.
    """

    steps_seen: int = 0
    steps_total: int | None = None
    seconds: float = 0.0
    experiments: int = 0
    experimented: bool = True
    aborted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Report(Faces):
    """A checkup, ready to be shown: text, HTML, Markdown, JSON, notebooks and pictures are faces of this one object.

    Attributes
    ----------
    title
        What was examined: the recipe's name, or its file.
    verdict, headline
        ``"healthy"``, ``"sick"`` or ``"inconclusive"``, and one sentence that says why.
    findings
        Most severe first; empty when healthy.
    notes
        What was noticed and does no harm: never an alarm, never a reason for a verdict.
    ruled_out
        Sentences: what was tried and did not help.
    trials
        Every experiment, the unsuccessful ones too.
    budget, heat, activations, attention, updates, losses, events
        The pictures and tables; ``None`` or empty where nothing was measured.
    coverage, environment
        How much was seen, and on what machine with what versions.
    classes
        Name and class of every module, ``{"17": "Linear"}``: faces say beside a name that ends in a number what it is.
    through_time
        The gradient over the time lag, where there is a recurrence or attention and it was looked at.
    """

    title: str
    verdict: Verdict
    headline: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    ruled_out: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    budget: Waterfall | None = None
    heat: HeatMap | None = None
    activations: tuple[LayerActivation, ...] = ()
    updates: UpdateRatios | None = None
    losses: LossCurve | None = None
    events: tuple[Event, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    environment: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    through_time: tuple[ThroughTime, ...] = ()
    attention: tuple[LayerAttention, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.verdict not in {"healthy", "sick", "inconclusive"}:
            raise GraddoctorError(f"a verdict is healthy, sick or inconclusive, got {self.verdict!r}")

    def report(self) -> Report:
        """Return itself."""
        return self


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and math.isfinite(value) and value > 0 else None


def _expect_grid(what: str, names: Sequence[str], steps: Sequence[int], values: Cells) -> None:
    widths = {len(row) for row in values} or {len(steps)}
    if len(values) != len(names) or widths != {len(steps)}:
        message = (
            f"a {what} of {len(names)} names and {len(steps)} steps got {len(values)} rows of width {sorted(widths)}"
        )
        raise GraddoctorError(message)


def _running_mean(values: Sequence[float | None], width: int) -> tuple[float | None, ...]:
    """Mean of the finite values among the last ``width``; ``None`` where the value itself is ``None``."""
    means: list[float | None] = []
    for end, value in enumerate(values, start=1):
        window = [past for past in values[max(0, end - width) : end] if past is not None]
        means.append(sum(past / len(window) for past in window) if value is not None else None)
    return tuple(means)
