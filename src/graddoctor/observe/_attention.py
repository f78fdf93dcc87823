"""Recognise attention among the operations of a forward pass: fused kernels, and softmax(QKᵀ)V in any hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graddoctor.observe import _operations as operations
from graddoctor.observe.attention import (
    AttentionReading,
    Rows,
    bound,
    effective_rank,
    given,
    look,
    of_samples,
    recomputed,
    side_by_side,
    similarity,
)

_PRODUCTS = {"matmul", "linear"}  # of batches of matrices, and of matrices
_RESHAPED = {"cat", "slice", "select", "split", "split_with_sizes", "index", "expand"}
_FOUR, _MATRIX = 4, 2


@dataclass
class _Followed:
    """A tensor on the way from a product of data with data to a softmax, or (with its rows) on to the values."""

    alive: weakref.ref[Tensor]
    rows: Rows | None = None
    shape: tuple[int, ...] = ()
    axis: int = -1


class Watch:
    """Follows one forward pass. ``is_data`` tells whether samples have flowed into a tensor."""

    def __init__(self, is_data: Callable[[Tensor], bool]) -> None:
        self._is_data = is_data
        self.readings: list[AttentionReading] = []
        self._followed: dict[int, _Followed] = {}
        self._counts: dict[str, int] = {}

    def see(
        self,
        kind: str,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        *,
        place: tuple[str, int],
    ) -> None:
        """Look at one operation; ``place``: the innermost module, and the size of the batch axis."""
        out = result[0] if isinstance(result, (tuple, list)) and result else result
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.layout is not torch.strided:
            return
        if kind == "attention":
            self._fused(bound(func, args, kwargs), out, place)
        elif kind in _PRODUCTS:
            self._product(kind, args, out, place)
        elif kind == "softmax":
            self._softmax(args, kwargs, out)
        else:
            self._pass_on(kind, args, kwargs, result)

    def finished(self) -> tuple[AttentionReading, ...]:
        """All that was seen, in the order of the forward pass."""
        return tuple(self.readings)

    def _known(self, tensor: Any) -> _Followed | None:
        known = self._followed.get(id(tensor))
        return known if known is not None and known.alive() is tensor else None

    def _fused(self, named: Mapping[str, Any], out: Tensor, place: tuple[str, int]) -> None:
        query, key, value = named["query"], named["key"], named["value"]
        mask = named.get("attn_mask", named.get("attn_bias"))
        causal = bool(named.get("is_causal"))
        if query.dim() != _FOUR or query.numel() == 0 or query.shape[1] % max(key.shape[1], 1):
            return
        with _quiet(query):
            rows = look(*recomputed(query, key, scale=named.get("scale"), mask=mask, causal=causal))
            sizes = query.shape[1], query.shape[2], key.shape[2]
            self._add(rows, value, out, (place[0], query.shape[0]), sizes=sizes, fused=True)

    def _product(self, kind: str, args: tuple[Any, ...], out: Tensor, place: tuple[str, int]) -> None:
        factors = [a for a in args if isinstance(a, Tensor)][-2:]
        if len(factors) < 2:  # noqa: PLR2004 - one and the other
            return
        weights = [self._known(factor) for factor in factors]
        side = next((k for k, known in enumerate(weights) if known is not None and known.rows is not None), None)
        if side is not None and weights[side] is not None:
            self._mixed(weights[side], factors[1 - side], out, place, flipped=side == 1)
        elif kind == "matmul" or all(map(self._is_data, factors)):
            self._follow(out, _Followed(weakref.ref(out)))

    def _softmax(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor) -> None:
        logits = args[0]
        if self._known(logits) is None or logits.dim() < _MATRIX or logits.numel() == 0:
            return
        axis = int(args[1] if len(args) > 1 else kwargs.get("dim", -1))
        with _quiet(logits):
            piece, shape = given(logits.movedim(axis, -1))
            self._follow(out, _Followed(weakref.ref(out), look(piece, shape), shape))

    def _mixed(
        self, weights: _Followed | None, values: Tensor, out: Tensor, place: tuple[str, int], *, flipped: bool
    ) -> None:
        assert weights is not None  # noqa: S101 - it has rows
        assert weights.rows is not None  # noqa: S101 - it was asked for
        with _quiet(out):
            if flipped:  # (values)ᵀ (weights)ᵀ
                values, out = values.mT, out.mT
            samples, heads, queries, keys = weights.shape
            stacked = samples == 1 and place[1] > 0 and heads % place[1] == 0  # samples and heads on one axis
            told = heads // place[1] if stacked else heads
            place = place[0], samples * heads // told
            self._add(weights.rows, values, out, place, sizes=(told, queries, keys), fused=False)

    def _add(
        self,
        rows: Rows,
        values: Tensor,
        out: Tensor,
        place: tuple[str, int],
        *,
        sizes: tuple[int, int, int],
        fused: bool,
    ) -> None:
        module, samples = place
        heads, queries, keys = sizes
        name = module or "attention"
        count = self._counts[name] = self._counts.get(name, 0) + 1
        reading = AttentionReading(
            name=name if count == 1 else f"{name}#{count}",
            module=module,
            fused=fused,
            heads=heads,
            queries=queries,
            keys=keys,
            order=len(self.readings),
            **{key: value for key, value in rows._asdict().items() if key != "looked_at"},
        )
        if values.dim() >= _MATRIX and values.shape[-2] == keys:
            tokens, after = side_by_side(values, samples), side_by_side(out, samples)
            looked_at = of_samples(rows.looked_at, samples, len(tokens))
            used = looked_at if looked_at.shape == tokens.shape[:2] else None
            reading = replace(
                reading,
                similarity=similarity(tokens, used),
                mixed=similarity(after, used if queries == keys else None),
                rank=effective_rank(tokens, used),
            )
        self.readings.append(reading)

    def _pass_on(self, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """What is scaled, masked, dropped or reshaped is still what it was."""
        found = [self._known(a) for a in (*args, *kwargs.values(), *_inner(args)) if isinstance(a, Tensor)]
        known = next((one for one in found if one is not None), None)
        tensor = None if known is None else known.alive()
        if known is None or tensor is None:
            return
        changes = kind in _RESHAPED or operations.sort_of(kind) == operations.VIEW
        for out in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(out, Tensor) and (changes or out.numel() == tensor.numel()):
                self._follow(out, replace(known, alive=weakref.ref(out)))

    def _follow(self, tensor: Tensor, known: _Followed) -> None:
        self._followed[id(tensor)] = known


def _inner(args: tuple[Any, ...]) -> Iterator[Any]:
    for value in args:
        if isinstance(value, (tuple, list)):
            yield from value


def _quiet(tensor: Tensor) -> torch.autocast:
    """In the types that were asked for, whatever autocast would do."""
    return torch.autocast(tensor.device.type, enabled=False)
