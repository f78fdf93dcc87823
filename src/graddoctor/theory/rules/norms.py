"""Normalizations: the length is set to one, and the gradient divided by what it was before."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law
from graddoctor.theory.rules.step import Pull, Scene, Step, argument, second


def layer_norm(call: Call, scene: Scene) -> Step | None:
    """Follow a layer norm: over features, and over places where its shape says so."""
    ref = call.arguments[0]
    weight, bias, eps = argument(call, 2, "weight"), argument(call, 3, "bias"), argument(call, 4, "eps", 1e-5)
    return _normalized(call, scene(ref), scene(ref).mean ** 2, (weight, bias, eps))


def rms_norm(call: Call, scene: Scene) -> Step | None:
    """Follow a fused RMS norm."""
    eps = argument(call, 3, "eps")
    return _normalized(call, scene(call.arguments[0]), 0.0, (argument(call, 2, "weight"), None, eps or 0.0))


def group_norm(call: Call, scene: Scene) -> Step | None:
    """Follow a group norm: channels of a group and all places."""
    ref, weight, bias, *_, groups, eps = call.arguments[:8]
    law = scene(ref)
    width = ref.shape[1] // groups
    return _normalized(call, law, law.mean**2 + max(law.along - law.mean**2, 0.0) / width, (weight, bias, eps))


def batch_norm(call: Call, scene: Scene) -> Step | None:
    """Follow a batch norm: what all samples and places have in common is taken away; and instance norm, its view."""
    ref, weight, bias = call.arguments[:3]
    running, training, eps = call.arguments[4], call.arguments[5], call.arguments[7]
    law = scene(ref)
    if not training:
        scale = float((running + eps).reciprocal().mean()) * _moment(weight, call, 1.0)
        return Step((law.scaled(scale, root=scale**0.5, shift=_moment(bias, call, 0.0)),), (_pull(ref, scale),))
    samples, places = ref.shape[0], max(ref.numel // (ref.shape[0] * ref.shape[1]), 1)
    count = samples * places
    across = law.between + (places - 1) * min(law.between, law.along)
    common = (law.average + (places - 1) * law.along + (samples - 1) * across) / count
    return _normalized(call, law, common, (weight, bias, eps))


def _normalized(call: Call, law: Law, common: float, affine: tuple[Any, Any, float]) -> Step | None:
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    weight, bias, eps = affine
    gain, shift = _moment(weight, call, 1.0), _moment(bias, call, 0.0)
    variance = max(law.average - common, 1e-12 * law.average) + eps
    rate = gain / variance if variance > 0 else float("inf")
    rows = law.square * ((variance - eps) / law.average if law.average > 0 else 0.0)
    centred = Law(rows, 0.0, law.between - common, law.along - common, channels=law.channels)
    if call.kind in {"layer_norm", "rms_norm"}:  # every sample and place by itself
        own = rows + eps
        after = Law(rows / own * gain + shift, 0.0, centred.between * rate + shift, centred.along * rate + shift,
                    channels=law.channels)  # fmt: skip
        return Step((after, None, None), (Pull(ref, lambda g: Gradient(g.square * gain / own, g.along * rate)),))
    return Step((centred.scaled(rate, shift=shift), None, None), (_pull(ref, rate),))


def _pull(ref: Ref, rate: float) -> Pull:
    return Pull(ref, lambda gradient: gradient.scaled(rate))


def _moment(value: Any, call: Call, otherwise: float) -> float:
    return second(value, call) if isinstance(value, Tensor) else otherwise
