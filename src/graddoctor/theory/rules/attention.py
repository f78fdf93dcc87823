"""Attention at initialization: scores are small, so its weights nearly average what the values are.

With independent normal scores of variance s², a row over n places has E[Σ A²] = e^{s²}/n, at most 1. A mean over places
keeps what they have in common: E[(Av)²] = f q + (1 - f) p, f = E[Σ A²], q the values' square and p their product at two
places. On the way back the same weights sum the gradients of all queries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat
from graddoctor.theory.rules.step import MASKED, Pull, Scene, Step, argument, named

_LITTLE = 0.25  # share of a square that may be that of the mean


def of_streams(call: Call, scene: Scene, left: Ref, right: Ref, bias: object = None) -> Step | None:
    """Follow a product of two tensors that both hold samples: scores (and their mask), or weights times values.

    Products add up as if at random, which those of a tensor with a mean need not: these are not followed.
    """
    a, b = scene(left), scene(right)
    inner, axes = left.shape[-1], len(call.out.shape)
    if a.focus is not None:
        return _weighted(call, a, b, left, right)
    if any(law.mean**2 > _LITTLE * law.average for law in (a, b)) or isinstance(bias, Ref):
        return None
    alpha = float(call.options.get("alpha", 1.0)) ** 2
    keys = open_keys(bias.expand(call.out.shape)) if isinstance(bias, Tensor) and masks(bias) else None
    law = Law(flat(alpha * inner * a.average * b.average, axes), along=alpha * inner * a.along * b.along, keys=keys)
    rows, columns = left.shape[-2], right.shape[-1]
    return Step(
        (law,),
        (
            Pull(left, lambda g: Gradient(flat(alpha * columns * b.average * g.average, axes))),
            Pull(right, lambda g: Gradient(flat(alpha * rows * a.average * g.average, axes))),
        ),
    )


def masks(value: Tensor) -> bool:
    """Whether a constant that is added to scores shuts places out."""
    return value.is_floating_point() and value.numel() > 1 and float(value.detach().min()) < MASKED


def _weighted(call: Call, weights: Law, values: Law, left: Ref, right: Ref) -> Step:
    queries, keys = left.shape[-2:]
    focus, squares = weights.focus or 1.0, None
    if weights.keys is not None:
        variance = math.log(max(focus / float((1 / weights.keys.clamp(min=1)).mean()), 1.0))
        squares = _squares(variance, weights.keys, queries, keys)
    law, to_weights, to_values = averaging(focus, values, (queries, keys, right.shape[-1]), squares)
    axes = len(right.shape)
    return Step(
        (law.shaped(call.out.shape),),
        (
            Pull(left, lambda g: Gradient(flat(to_weights * g.average, axes))),
            Pull(right, lambda g: to_values(g).shaped(right.shape)),
        ),
    )


class _Summed:
    """Gradient at the values: the weights sum those of all queries, each place its own."""

    def __init__(self, focus: float, queries: int, keys: int, squares: Tensor | None) -> None:
        self.own = queries * focus / keys
        self.common = queries * (queries - 1) / keys**2
        self.shared = queries / keys**2
        self.squares = squares

    def __call__(self, gradient: Gradient) -> Gradient:
        common = self.common * gradient.along
        along = self.shared * gradient.average + common
        if self.squares is None:
            return Gradient(flat(self.own * gradient.average + common, gradient.square.dim()), along)
        queries = len(self.squares)
        arriving = gradient.square.expand(*gradient.square.shape[:-2], queries, gradient.square.shape[-1])
        return Gradient(self.squares.T @ arriving + common, along)


def averaging(
    focus: float, values: Law, shape: tuple[int, int, int], squares: Tensor | None = None
) -> tuple[Law, float, _Summed]:
    """The law of attention's result, and what becomes of its gradient at the weights and at the values.

    ``shape``: queries, keys, features. ``squares``: E[A²] for each query and key, where it is known place by place.
    """
    queries, keys, width = shape
    square = flat(focus * values.average + (1 - focus) * values.along, values.square.dim())
    if squares is not None:
        own = squares.sum(1, keepdim=True)
        square = (own * values.average + (1 - own) * values.along).reshape(
            *(1,) * (values.square.dim() - 2), queries, 1
        )
    shared = values.average / keys + (1 - 1 / keys) * values.along
    law = Law(square, values.mean, values.between, shared)
    return law, width * max(values.average - values.along, 0.0), _Summed(focus, queries, keys, squares)


def focus_of(variance: float, keys: Tensor) -> float:
    """E[Σ A²], averaged over rows with so many keys each."""
    return float((math.exp(min(variance, 50.0)) / keys.clamp(min=1)).clamp(max=1.0).mean())


def softmax(call: Call, scene: Scene) -> Step | None:
    """Follow the weights of attention: a softmax over the last of three axes or more."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref) or len(ref.shape) < 3 or argument(call, 1, "dim") not in {-1, len(ref.shape) - 1}:  # noqa: PLR2004 - (batch, query, key)
        return None
    law, count = scene(ref), ref.shape[-1]
    keys = law.keys if law.keys is not None else torch.tensor([float(count)], dtype=torch.float64)
    focus = focus_of(max(law.variance - max(law.along, 0.0), 0.0) if law.mean else law.variance, keys)
    axes = len(ref.shape)
    after = Law(flat(focus / count, axes), 1 / count, count**-2.0, count**-2.0, keys=keys, focus=focus)

    def back(gradient: Gradient) -> Gradient:
        return Gradient(flat(gradient.average * focus / count * (1 - focus), axes))

    return Step((after,), (Pull(ref, back),))


def fused(call: Call, scene: Scene) -> Step | None:
    """Follow ``scaled_dot_product_attention``, whichever kernel runs it."""
    query, key, value = call.arguments[:3]
    if not all(isinstance(one, Ref) for one in (query, key, value)):
        return None
    q, k, v = scene(query), scene(key), scene(value)
    queries, (keys, inner), width = query.shape[-2], key.shape[-2:], value.shape[-1]
    scale = named(call).get("scale") or inner**-0.5
    variance, places = inner * q.average * k.average * scale**2, _open(call, queries, keys)
    focus = focus_of(variance, places)
    law, to_weights, to_values = averaging(focus, v, (queries, keys, width), _squares(variance, places, queries, keys))
    to_scores = to_weights * focus / keys * (1 - focus) * scale**2
    axes = len(query.shape)
    return Step(
        (law.shaped(call.out.shape),),
        (
            Pull(query, lambda g: Gradient(flat(keys * k.average * to_scores * g.average, axes))),
            Pull(key, lambda g: Gradient(flat(queries * q.average * to_scores * g.average, axes))),
            Pull(value, to_values),
        ),
    )


def _open(call: Call, queries: int, keys: int) -> Tensor:
    """How many places each query may look at."""
    given = named(call)
    mask = given.get("attn_mask", given.get("attn_bias"))
    if isinstance(mask, Tensor):
        return open_keys(mask)
    if given.get("is_causal"):
        return torch.arange(1, queries + 1, dtype=torch.float64).clamp(max=keys)
    return torch.tensor([float(keys)], dtype=torch.float64)


def _squares(variance: float, places: Tensor, queries: int, keys: int) -> Tensor | None:
    """E[A²] where every query looks at all keys, or at those up to its own place; ``None`` for other masks."""
    if len(places) % queries == 0 and bool((places.reshape(-1, queries) == places[:queries]).all()):
        places = places[:queries]  # of every sample and head the same
    focus = (math.exp(min(variance, 50.0)) / places.clamp(min=1)).clamp(max=1.0) / places.clamp(min=1)
    if len(places) == 1:
        return focus.expand(queries, 1).expand(queries, keys)
    causal = torch.arange(1, queries + 1, dtype=places.dtype)
    if queries == keys == len(places) and bool((places == causal).all()):
        return torch.tril(focus[:, None].expand(queries, keys))
    return None


def open_keys(mask: Tensor) -> Tensor:
    """Places that a mask leaves open, row by row; numbers far below zero shut a place out, as ``False`` does."""
    left = mask.detach() if mask.dtype is torch.bool else mask.detach() > -1e4  # noqa: PLR2004 - as `step.MASKED`
    return left.sum(-1).double().reshape(-1)
