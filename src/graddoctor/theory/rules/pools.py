"""Means, sums and pooling: over places they keep what those have in common, over features they become a number."""

from __future__ import annotations

from math import prod
from typing import Any

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat, measured
from graddoctor.theory.rules.step import Pull, Scene, Step, argument

_SAMPLES = 0
_ROUNDING = 1e-12


def mean(call: Call, scene: Scene) -> Step | None:
    """Follow a mean or a sum over axes."""
    ref = call.arguments[0]
    axes = argument(call, 1, "dim")
    if not isinstance(ref, Ref) or not ref.shape:
        return None
    over = _axes(axes, len(ref.shape))
    if _SAMPLES in over and ref.shape[0] == scene.samples:
        return None
    law = scene(ref)
    count = prod(ref.shape[axis] for axis in over)
    feature = 1 if law.channels else len(ref.shape) - 1
    times = 1.0 if call.kind == "mean" else float(count)
    if feature in over:  # over many features: no longer random
        value = law.mean * times
        after = Law(flat(value**2, len(call.out.shape)), value, value**2, value**2, fixed=True)
    else:
        after = _pooled(call, law, count, times)
    shape = len(ref.shape)

    def back(gradient: Gradient) -> Gradient:
        square = gradient.average * (times / count) ** 2
        return Gradient(flat(square, shape), square)

    return Step((after,), (Pull(ref, back),))


def _axes(given: Any, axes: int) -> set[int]:
    if given is None or given == []:
        return set(range(axes))
    listed = given if isinstance(given, (tuple, list)) else [given]
    return {int(axis) % axes for axis in listed}


def _pooled(call: Call, law: Law, count: int, times: float) -> Law:
    square = ((law.average - law.along) / count + law.along) * times**2
    channels = law.channels and len(call.out.shape) > 2  # noqa: PLR2004 - more than (samples, features)
    return Law(
        flat(square, len(call.out.shape)), law.mean * times, law.between * times**2, law.along * times**2,
        channels=channels,
    )  # fmt: skip


def spread(call: Call, scene: Scene) -> Step | None:
    """Follow ``var``, ``std`` and the norm over many features: what hardly varies, as in a norm that is written out."""
    ref = call.arguments[0]
    axes = argument(call, 1 if call.kind in {"var", "std"} else 2, "dim")
    if not isinstance(ref, Ref) or not ref.shape or (call.kind == "linalg_vector_norm" and _order(call) != 2):  # noqa: PLR2004 - Euclid's
        return None
    over, law = _axes(axes, len(ref.shape)), scene(ref)
    if _SAMPLES in over or (1 if law.channels else len(ref.shape) - 1) not in over or not law.average > 0:
        return None
    count, variance = prod(ref.shape[axis] for axis in over), max(law.variance, _ROUNDING * law.average)
    value, slope = {
        "var": (variance, 4 * variance / count**2),
        "std": (variance**0.5, 1 / count**2),
    }.get(call.kind, ((count * law.average) ** 0.5, 1 / count))
    after = Law(flat(value**2, len(call.out.shape)), value, value**2, value**2, fixed=True)
    back = Pull(ref, lambda gradient: Gradient(flat(gradient.average * slope, len(ref.shape))))
    return Step((after,), (back,))


def _order(call: Call) -> float:
    return float(argument(call, 1, "ord", 2))


def average_pool(call: Call, scene: Scene) -> Step | None:
    """Follow average pooling, adaptive or not: neighbours count like any two places.

    Where windows overlap by half or more, what comes out is alike at neighbours, which no law here tells.
    """
    ref = call.arguments[0]
    if not isinstance(ref, Ref) or _overlaps(call):
        return None
    law, count = scene(ref), _window(call, ref)
    shape, windows = len(ref.shape), count * call.out.numel / max(ref.numel, 1)  # in how many an entry is

    def back(gradient: Gradient) -> Gradient:
        together = windows * max(windows - 1, 0.0) * gradient.along
        square = (windows * gradient.average + together) / count**2
        return Gradient(flat(square, shape), (windows * gradient.along + together) / count**2)

    return Step((_pooled(call, law, count, 1.0),), (Pull(ref, back),))


def _overlaps(call: Call) -> bool:
    if call.kind.startswith("adaptive"):
        return False
    size, stride = (
        value if isinstance(value, (tuple, list)) else [value]
        for value in (argument(call, 1, "kernel_size"), argument(call, 2, "stride") or argument(call, 1, "kernel_size"))
    )
    return any(2 * step <= side and side > 1 for side, step in zip(size, stride, strict=False))


def _window(call: Call, ref: Ref) -> int:
    """Entries that one mean is taken of."""
    if call.kind.startswith("adaptive"):
        return max(ref.numel // max(call.out.numel, 1), 1)
    size = argument(call, 1, "kernel_size")
    sides = size if isinstance(size, (tuple, list)) else [size]
    return int(prod(sides)) if len(sides) > 1 else int(sides[0]) ** int(call.kind[-2])


def max_pool(call: Call, scene: Scene) -> Step | None:
    """Follow max pooling: each gradient goes to one entry, so its norm stays; what is picked is read off the batch."""
    ref, tensor = call.arguments[0], call.tensors[0]
    if not isinstance(ref, Ref) or tensor is None:
        return None
    share = call.out.numel / ref.numel
    after = measured(tensor, scene.samples, channels=True)

    def back(gradient: Gradient) -> Gradient:
        square = flat(gradient.average * share, len(ref.shape))
        return Gradient(square, gradient.along * share**2, largest=max(round(1 / share), 1))

    return Step((after, None), (Pull(ref, back),))
