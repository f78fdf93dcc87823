"""Views, selections, joins and copies: no entry changes, some are left out, some are there several times."""

from __future__ import annotations

from typing import Any

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.laws import Gradient, Law, flat
from graddoctor.theory.rules.step import Pull, Scene, Step

_WITH_HEADS = 5  # axes of keys that several heads share: (sample, head, copy, place, feature)

MOVES = frozenset({"t", "transpose", "permute", "swapaxes", "movedim", "numpy_t"})


def view(call: Call, scene: Scene) -> Step | None:
    """Follow a view or a copy of all entries; a transposition turns the map of lengths as well."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law, shape = scene(ref), ref.shape
    if call.kind in MOVES and not law.channels:
        rest = call.arguments[1:]
        law = _with_square(law, call.function(law.square, *rest))
        return Step((law,), (Pull(ref, lambda g: g.shaped(shape)),))
    if call.kind in {"unsqueeze", "squeeze"}:
        law = _with_square(law.shaped(call.out.shape), flat(law.average, len(call.out.shape)))
    kept = law.channels and call.kind not in MOVES and len(call.out.shape) > 2  # noqa: PLR2004 - more than (samples, features)
    return Step((law.shaped(call.out.shape, channels=kept),), (Pull(ref, lambda g: g.shaped(shape)),))


def _with_square(law: Law, square: Any) -> Law:
    return Law(square, law.mean, law.between, law.along, keys=law.keys, focus=law.focus, fixed=law.fixed)


def part(call: Call, scene: Scene) -> Step | None:
    """Follow a selection of entries: what is left out gets no gradient."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law = scene(ref)
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


def copies(call: Call, scene: Scene) -> Step | None:
    """Follow ``expand`` and ``repeat``: gradients of the copies add up."""
    ref = call.arguments[0]
    if not isinstance(ref, Ref):
        return None
    law, count = scene(ref), call.out.numel / max(ref.numel, 1)
    heads = len(call.out.shape) >= _WITH_HEADS
    along = law.along if heads or count == 1 else law.average

    def back(gradient: Gradient) -> Gradient:
        together = 0.0 if heads else count * (count - 1) * gradient.along
        square = count * gradient.average + together
        return Gradient(flat(square, len(ref.shape)), count * gradient.along + together)

    after = Law(flat(law.average, len(call.out.shape)), law.mean, law.between, along)
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
    after = Law(square, over("mean"), over("between"), over("along"), channels=channels)
    pulls = tuple(
        Pull(ref, lambda g, ref=ref: Gradient(flat(g.average, len(ref.shape)), g.along))  # type: ignore[misc]
        for ref in refs
    )
    return Step((after,), pulls)


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
