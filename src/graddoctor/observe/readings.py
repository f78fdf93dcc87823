"""What is read off a network at one step: plain data that probe and stream write, and rules and reports read.

"Decades" are log10 units. A norm is the Frobenius norm over the whole tensor. A unit is a feature (last axis) or, for
images, a channel (axis 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ActivationReading:
    """One use of a nonlinearity, in the order of the forward pass.

    Attributes
    ----------
    name
        Unique within the probe, such as ``"layers.3.act"`` or ``"blocks.2:tanh"`` for functional code.
    module
        The innermost module it runs in (``""``: the root).
    kind
        The function: ``"relu"``, ``"tanh"``, ``"sigmoid"``, ``"softmax"``, ``"gelu"``, ``"exp"``, …
    samples
        How many samples (size of the batch axis) were seen.
    dead
        Share of units whose output and slope are zero for every sample seen (one-sided functions only, else 0).
    saturated
        Share of values where the slope is under a tenth of the function's maximum (bounded functions only, else 0);
        for softmax, share of rows whose largest probability leaves a slope p(1-p) under a tenth of 1/4.
    slope
        Mean square of the slope, as a share of the function's largest squared slope (``nan`` where unknown).
    zeros
        Share of outputs that are exactly zero.
    input_rms, output_rms
        Root mean square before and after; what is masked before a softmax counts as zero.
    spread
        Norm of the differences between samples, ``‖h - mean_batch h‖ / √numel`` (``nan`` without a batch axis).
    gradient
        Norm of the gradient that reaches its output (``nan`` where no backward pass was seen).
    nonfinite
        Number of outputs that are not finite.
    """

    name: str
    module: str
    kind: str
    shape: tuple[int, ...]
    samples: int
    dead: float
    saturated: float
    slope: float
    zeros: float
    input_rms: float
    output_rms: float
    spread: float
    gradient: float
    nonfinite: int
    histogram: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # (bin edges, share of outputs in each)
    order: int = 0


@dataclass(frozen=True)
class ParameterReading:
    """One parameter: how large it is, what gradient it received, how far the last step moved it.

    ``gradient`` is ``None`` where there was none (not reached by the backward pass); ``update`` is ``None`` when no
    step was seen. ``identical`` is the share of output units whose weights equal another unit's (the symmetry that
    training cannot break); ``unchanged`` the share of entries with a nonzero update that the step left as they were.
    ``std`` times ``sqrt(fan_in)`` is the weight scale of mean-field theory.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    norm: float
    mean: float
    std: float
    gradient: float | None
    gradient_zeros: float
    gradient_nonfinite: int
    identical: float
    update: float | None = None
    unchanged: float = 0.0
    aliases: tuple[str, ...] = ()
    order: int = 0


@dataclass(frozen=True)
class InputReading:
    """A tensor that the network was given, or that the loss compares with (``role``: ``"input"`` or ``"target"``).

    ``feature_std`` are the smallest and largest standard deviation over the features that vary at all.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    mean: float
    std: float
    absmax: float
    feature_std: tuple[float, float]
    nonfinite: int


@dataclass(frozen=True)
class OperationReading:
    """One node of the autograd graph, in the order of the forward pass.

    ``kind`` is a short word such as ``"linear"``, ``"relu"``, ``"view"``. ``arriving`` is the norm of the gradient that
    reaches the output, ``leaving`` of that which goes on to the first input that data flows through, ``gain`` the
    decades between them (``nan`` where either is zero, not finite, or was not seen).
    """

    name: str
    kind: str
    module: str
    shape: tuple[int, ...]
    gain: float
    arriving: float
    leaving: float
    order: int = 0


@dataclass(frozen=True)
class OutputReading:
    """What the model returned, if it is one tensor: its shape, and the operation and module that made it.

    ``kind`` looks through views, squeezes and casts: a ``softmax(...).squeeze(1)`` reads ``"softmax"``.
    """

    shape: tuple[int, ...]
    kind: str
    module: str


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the recurrent Jacobian ∂h_{t+1}/∂h_t at a few steps, over a few samples.

    Attributes
    ----------
    steps
        Where it was taken: the place t of the state, counted along the way that the state takes.
    largest, median, smallest
        One number for each of them, in units of 1: the geometric mean over the samples. Of an LSTM's layer the state is
        (h, c); of a hand-written cell it is h alone.
    radius
        Spectral radius of the state-to-state matrix (of gated cells, the block of the candidate); ``nan``: not square.
    """

    steps: tuple[int, ...]
    largest: tuple[float, ...]
    median: tuple[float, ...]
    smallest: tuple[float, ...]
    radius: float


@dataclass(frozen=True)
class TemporalReading:
    """The gradient through time, of one layer in one direction, of one loop, or at the inputs of a sequence model.

    Attributes
    ----------
    name
        Unique within the look: ``"rnn"``, ``"rnn layer 1"``, ``"rnn layer 0 reverse"``.
    module, modules
        Whose weights carry the state (``""``: the root), and all that take part, the state-to-state weights first.
    kind
        ``"rnn_tanh"``, ``"rnn_relu"``, ``"lstm"``, ``"gru"``; ``"loop"``: a hand-written cell; ``"attention"``.
    layer, reverse
        Which layer of the module, and whether it reads from the last step to the first.
    steps
        Time steps of the longest sequence.
    source
        What the gradient is taken at: ``"hidden"`` states h_t, or the ``"input"`` x_t (the light reading).
    loss_gradient
        ‖∂L/∂h_t‖ over the batch, first to last time step, of the loss as it is: where every step has a loss, lags mix.
        Zeros where none of it reaches the state; in the model's own arithmetic, so small ones may be 0.
    lag_gradient
        Norm, root mean square over samples, of what is left at h_{T-k} of a random cotangent of norm 1 that enters at
        each sample's own last step T only; for lags k = 0, 1, …. Not cut off where float32 ends.
    cell_lag_gradient
        The same cotangent at the cell states c_{T-k} of an LSTM.
    decades
        log10 from lag 0 to the largest lag (< 0: lost), or to the last before ``cut``: the first lag at which it is
        exactly zero or not finite.
    decades_per_step
        ``decades`` over that lag; 0 for one step.
    horizon_1, horizon_3
        First lag at which one and three decades are lost; ``None``: never within the sequence.
    spectrum
        Of the recurrent Jacobian; ``None`` where there is none, or it is too large.
    gates
        Mean openness from 0 to 1 over batch and units, by time step: ``"forget"``, ``"input"``, ``"output"`` of an
        LSTM; ``"update"`` (1: keeps its state, as torch has it) and ``"reset"`` of a GRU; ``"gate 1"``, … of a loop.
    gate_saturation
        By gate, share of its values where the sigmoid's slope is under a tenth of the largest.
    saturation
        By time step, share of the tanh values behind the state (the candidate of a GRU) whose slope is under a tenth;
        ``nan`` where there is no tanh.
    verified
        Relative difference of the loss in elementary operations to the loss as the model computes it, without TF32;
        ``nan`` where a GPU's kernel draws dropout between layers, which no other operation can draw alike.
    notes
        What a reader has to know beside the numbers.
    """

    name: str
    module: str
    modules: tuple[str, ...]
    kind: str
    layer: int
    reverse: bool
    steps: int
    source: str
    loss_gradient: tuple[float, ...]
    lag_gradient: tuple[float, ...]
    decades: float
    decades_per_step: float
    horizon_1: int | None
    horizon_3: int | None
    cut: int | None = None
    cell_lag_gradient: tuple[float, ...] = ()
    spectrum: Spectrum | None = None
    gates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    gate_saturation: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    saturation: tuple[float, ...] = ()
    verified: float = 0.0
    notes: tuple[str, ...] = ()
