"""Views, selections, joins and copies: no entry changes, some are left out, some are there several times."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat
from graddoctor.theory.rules.places import View, adjoint, rearranged, spread_along
from graddoctor.theory.rules.step import Pull, Scene, Step, argument

_WITH_HEADS = 5  # axes of keys that several heads share: (sample, head, copy, place, feature)

_ALONG = frozenset({"select", "slice", "narrow", "split", "split_with_sizes", "unbind", "chunk"})

MOVES = frozenset({"t", "transpose", "permute", "swapaxes", "movedim", "numpy_t"})


def view(call: Call, scene: Scene) -> Step | None:
    """Follow a view or a copy of all entries; a transposition turns the map of lengths as well."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law, shape, after = scene(ref), ref.shape, call.out.shape
    if call.kind in MOVES and not law.channels:
        move = partial(_moved, call)
        moved = _with_square(law, move(law.square))
        return Step((moved,), (Pull(ref, lambda g: Gradient(_unmoved(call, g.square), g.along)),))
    if not law.channels:
        viewed = _with_square(law, rearranged(law.square, shape, after))
        return Step((viewed,), (Pull(ref, lambda g: Gradient(rearranged(g.square, after, shape), g.along)),))
    kept = law.channels and call.kind not in MOVES and len(call.out.shape) > 2  # noqa: PLR2004 - more than (samples, features)
    return Step((law.shaped(call.out.shape, channels=kept),), (Pull(ref, lambda g: g.shaped(shape)),))


def _moved(call: Call, square: Tensor) -> Tensor:
    moved: Tensor = call.function(square, *call.arguments[1:])
    return moved


def _unmoved(call: Call, square: Tensor) -> Tensor:
    """Turn a map back."""
    if call.kind == "permute":
        order = [int(axis) % square.dim() for axis in call.arguments[1]]
        return square.permute([order.index(axis) for axis in range(len(order))])
    return _moved(call, square)


def _with_square(law: Law, square: Any) -> Law:
    return Law(square, law.mean, law.between, law.along, keys=law.keys, focus=law.focus, fixed=law.fixed)


def part(call: Call, scene: Scene) -> Step | None:
    """Follow a selection of entries: what is left out gets no gradient."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law = scene(ref)
    axis = argument(call, 2 if "split" in call.kind else 1, "dim", 0) if call.kind in _ALONG else None
    if isinstance(axis, int) and not law.channels and axis % len(ref.shape) != len(ref.shape) - 1:
        return _places(call, law, axis % len(ref.shape))
    laws: list[Law | None] = []
    pulls = []
    for place, result in enumerate(call.results):
        if result is None:
            laws.append(None)
            continue
        same = len(result.shape) == len(ref.shape)
        laws.append(law.shaped(result.shape, channels=law.channels and same))
        share = result.numel / max(ref.numel, 1)

        def back(gradient: Gradient, share: float = share) -> Gradient:
            return Gradient(flat(gradient.average * share, len(ref.shape)), gradient.along * share**2)

        pulls.append(Pull(ref, back, place))
    return Step(tuple(laws), tuple(pulls))


def _places(call: Call, law: Law, axis: int) -> Step:
    """Follow a selection of samples or places: each keeps its own length, and gets its own gradient."""
    ref = call.arguments[0]
    whole = spread_along(law.square, axis, ref.shape[axis])
    laws, pulls = [], []
    for place, result in enumerate(call.results):
        take = partial(_taken, call, place)
        laws.append(None if result is None else _with_square(law, take(whole)))
        share = 0.0 if result is None else result.numel / max(ref.numel, 1)

        def back(gradient: Gradient, take: View = take, share: float = share) -> Gradient:
            start = torch.zeros((*ref.shape[:-1], 1), dtype=torch.float64)
            return Gradient(adjoint(take, start, gradient.square), gradient.along * share**2)

        pulls.append(Pull(ref, back, place))
    return Step(tuple(laws), tuple(pulls))


def _taken(call: Call, place: int, square: Tensor) -> Tensor:
    found = call.function(square, *call.arguments[1:], **call.options)
    taken: Tensor = found if isinstance(found, Tensor) else found[place]
    return taken


def copies(call: Call, scene: Scene) -> Step | None:
    """Follow ``expand`` and ``repeat``: gradients of the copies add up."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law, count = scene(ref), call.out.numel / max(ref.numel, 1)
    if count == 1:
        return view(call, scene)
    heads = len(call.out.shape) >= _WITH_HEADS
    along = law.along if heads else law.average

    def back(gradient: Gradient) -> Gradient:
        together = 0.0 if heads else count * (count - 1) * gradient.along
        square = count * gradient.average + together
        return Gradient(flat(square, len(ref.shape)), count * gradient.along + together)

    square = flat(law.average, len(call.out.shape))
    after = replace(law, square=square, along=along, channels=False)
    return Step((after,), (Pull(ref, back),))


def pad(call: Call, scene: Scene) -> Step | None:
    """Follow padding with zeros."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law, share = scene(ref), ref.numel / max(call.out.numel, 1)
    after = Law(
        flat(law.average * share, len(ref.shape)), law.mean * share, law.between * share, law.along * share**2,
        channels=law.channels,
    )  # fmt: skip
    return Step((after,), (Pull(ref, lambda g: Gradient(flat(g.average, len(ref.shape)), g.along)),))


def join(call: Call, scene: Scene) -> Step | None:
    """Follow ``cat`` and ``stack``: each part gets its own share of the gradient."""
    refs = [value for value in call.arguments[0] if isinstance(value, Ref)]
    laws = [(scene.of(value, call.out), _numel(value)) for value in call.arguments[0] if _numel(value)]
    total = sum(count for _, count in laws) or 1

    def over(name: str) -> float:
        return sum(float(getattr(law, name)) * count for law, count in laws) / total

    square = flat(over("average"), len(call.out.shape))
    channels = any(scene(ref).channels for ref in refs)
    axis = argument(call, 1, "dim", 0) % len(call.out.shape)
    if call.kind == "cat" and not channels and axis != len(call.out.shape) - 1:
        return _in_a_row(call, scene, axis, Law(square, over("mean"), over("between"), over("along")))
    after = Law(square, over("mean"), over("between"), over("along"), channels=channels)
    pulls = tuple(
        Pull(ref, lambda g, ref=ref: Gradient(flat(g.average, len(ref.shape)), g.along))  # type: ignore[misc]
        for ref in refs
    )
    return Step((after,), pulls)


def _in_a_row(call: Call, scene: Scene, axis: int, law: Law) -> Step:
    """Join along samples or places: each part keeps its lengths."""
    parts = [value for value in call.arguments[0] if _numel(value)]
    maps = [spread_along(scene.of(value, call.out).square, axis, value.shape[axis]) for value in parts]
    sizes = [max(one.shape[other] for one in maps) for other in range(len(call.out.shape))]
    square = torch.cat([one.expand(*sizes[:axis], one.shape[axis], *sizes[axis + 1 :]) for one in maps], axis)
    pulls, begin = [], 0
    for value in parts:
        if isinstance(value, Ref):
            pulls.append(
                Pull(value, partial(_own, axis=axis, begin=begin, of=(value.shape[axis], call.out.shape[axis])))
            )
        begin += value.shape[axis]
    return Step((_with_square(law, square),), tuple(pulls))


def _own(gradient: Gradient, *, axis: int, begin: int, of: tuple[int, int]) -> Gradient:
    length, whole = of
    return Gradient(spread_along(gradient.square, axis, whole).narrow(axis, begin, length), gradient.along)


def _numel(value: Any) -> int:
    return int(value.numel if isinstance(value, Ref) else value.numel())


def write(call: Call, scene: Scene) -> Step | None:
    """Follow a copy into a part of a tensor, as circular padding makes it: the part overwrites what was there."""
    before, source = call.arguments[:2]
    tensor = call.tensors[0]
    if not isinstance(source, Ref) or tensor is None:
        return None
    law, share = scene(source), min(source.numel / call.out.numel, 1.0)
    after = Law(flat(law.average, len(call.out.shape)), law.mean, law.between, law.along, channels=law.channels)
    if isinstance(before, Ref):
        left = 1 - share
        kept = Pull(before, lambda g: Gradient(flat(g.average * left, len(before.shape)), g.along * left**2))
        return Step((scene(before),), (_entering(source, 1.0), kept))
    # a border that is filled later, as in circular padding, hands its gradient back to this part
    return Step((after,), (_entering(source, 1 / share if call.out.index in scene.rewritten else 1.0),))


def _entering(source: Ref, factor: float) -> Pull:
    return Pull(source, lambda g: Gradient(flat(g.average * factor, len(source.shape)), g.along * factor))
