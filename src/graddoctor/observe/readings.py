"""What is read off a network at one step: plain data that probe and stream write, and rules and reports read.

"Decades" are log10 units. A norm is the Frobenius norm over the whole tensor. A unit is a feature (last axis) or, for
images, a channel (axis 1).
"""

from __future__ import annotations

from dataclasses import dataclass


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
