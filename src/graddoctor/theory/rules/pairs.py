"""Sums and products of two tensors: residual additions, gates, dropout, masks, biases, scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat
from graddoctor.theory.rules.attention import masks, open_keys
from graddoctor.theory.rules.step import MASKED, Pull, Scene, Step, argument


def add(call: Call, scene: Scene) -> Step | None:
    """Follow a sum or a difference: two branches with independent weights add up in squares."""
    left, right = call.arguments[:2]
    alpha = float(call.options.get("alpha", 1.0)) * (-1.0 if call.kind in {"sub", "rsub"} else 1.0)
    factors = (alpha, 1.0) if call.kind == "rsub" else (1.0, alpha)
    for value, other in ((left, right), (right, left)):
        if isinstance(value, Tensor) and isinstance(other, Ref) and masks(value):
            law = replace(scene(other), keys=open_keys(value.expand(call.out.shape)))
            return Step((law,), (Pull(other, lambda g: g),))
    a, b = (scene.of(v, call.out).scaled(f**2, root=f) for v, f in zip((left, right), factors, strict=True))
    both = 2 * a.mean * b.mean
    axes = len(call.out.shape)
    law = Law(
        square=_aligned(a, axes) + _aligned(b, axes) + both,
        mean=a.mean + b.mean,
        between=a.between + b.between + both,
        along=a.along + b.along + both,
        channels=any(isinstance(v, Ref) and scene(v).channels for v in (left, right)),
        fixed=a.fixed and b.fixed,
    )
    return Step((law,), _back(call, (left, right), tuple(f**2 for f in factors)))


def _aligned(law: Law, axes: int) -> Tensor:
    return law.square if law.square.dim() == axes else flat(law.average, axes)


def multiply(call: Call, scene: Scene) -> Step | None:
    """Follow a product or a quotient of what is independent: second moments multiply."""
    left, right = call.arguments[:2]
    a, b = scene.of(left, call.out), scene.of(right, call.out)
    if call.kind == "div":
        if not b.average > 0:
            return None
        b = _inverse(b)
    random = isinstance(right, Tensor) and right.shape == call.out.shape  # a dropout mask is drawn for every entry
    shared = b.mean**2 if random else None
    axes = len(call.out.shape)
    law = Law(
        square=_aligned(a, axes) * _aligned(b, axes),
        mean=a.mean * b.mean,
        between=a.between * (b.between if shared is None else shared),
        along=a.along * (b.along if shared is None else shared),
        channels=any(isinstance(v, Ref) and scene(v).channels for v in (left, right)),
        fixed=a.fixed and b.fixed,
    )
    attention = a if a.focus is not None else b if b.focus is not None else None
    if attention is not None and attention.focus is not None:  # dropout on attention's weights
        other = b if attention is a else a
        law = replace(law, keys=attention.keys, focus=min(attention.focus * other.average, 1.0))
    of_right = a.average * b.average**2 if call.kind == "div" else a.average  # of 1/b the slope is 1/b²
    return Step((law,), _back(call, (left, right), (b.average, of_right)))


def _inverse(law: Law) -> Law:
    """The law of one over a tensor that hardly varies."""
    scale = 1 / law.average**2
    return replace(
        law,
        square=flat(1 / law.average, law.square.dim()),
        mean=law.mean / law.average,
        between=law.between * scale,
        along=law.along * scale,
    )


def _back(call: Call, operands: tuple[Any, ...], factors: tuple[float, ...]) -> tuple[Pull, ...]:
    pulls = []
    for operand, factor in zip(operands, factors, strict=True):
        if not isinstance(operand, Ref):
            continue
        copies = call.out.numel / max(operand.numel, 1)

        def back(g: Gradient, ref: Ref = operand, factor: float = factor, copies: float = copies) -> Gradient:
            if copies == 1:
                return g.scaled(factor).shaped(ref.shape)
            return Gradient(flat(g.average * factor * copies, len(ref.shape)), g.along * factor * copies)

        pulls.append(Pull(operand, back))
    return tuple(pulls)


def dropout(call: Call, scene: Scene) -> Step | None:
    """Follow the fused dropout: what is kept is enlarged, and no two entries are kept together."""
    ref, p = call.arguments[0], float(argument(call, 1, "p", 0.0))
    keep = max(1 - p, 1e-12)
    law = scene(ref)
    return Step((replace(law, square=law.square / keep), None), (Pull(ref, lambda g: g.scaled(1 / keep)),))


def masked_fill(call: Call, scene: Scene) -> Step | None:
    """Follow scores of attention some of which are shut out."""
    ref, mask, value = call.arguments[:3]
    if not isinstance(ref, Ref) or not isinstance(mask, Tensor) or isinstance(value, Ref) or float(value) > MASKED:
        return None
    law = replace(scene(ref), keys=open_keys(~mask.bool().expand(ref.shape)))
    return Step((law,), (Pull(ref, lambda g: g),))


def where(call: Call, scene: Scene) -> Step | None:
    """The same, as ``where`` says it."""
    mask, ref, value = call.arguments[:3]
    number = isinstance(value, Tensor) and value.numel() == 1
    if not isinstance(ref, Ref) or not number or float(value) > MASKED:
        return None
    law = replace(scene(ref), keys=open_keys(mask.expand(call.out.shape)))
    return Step((law,), (Pull(ref, lambda g: g.shaped(ref.shape)),))
