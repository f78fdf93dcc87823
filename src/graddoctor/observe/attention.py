"""What attention does with its logits, and whether its tokens are still told apart.

An attention is looked at through its logits: what its softmax is given, the scale and the mask included. Fused kernels
never write them down, so they are computed again from queries and keys, a slice at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

CERTAIN = 0.99
"""A row whose largest probability is above this is saturated: next to no gradient passes its softmax."""

HIDDEN = -9000.0
"""A logit below this was masked. Masks add -inf, the least number of their type, or down to -10000 as BERT's did."""

_SLICE = 1 << 18  # logits that are computed at a time
_MOST = 1 << 20  # logits that are read of one attention: beyond, of every so many queries
_TOKENS = 1 << 21  # entries of the values that similarity and rank are taken from: beyond, of the first samples


@dataclass(frozen=True)
class AttentionReading:
    """One use of an attention, in the order of the forward pass, on the first batch of a probe.

    Attributes
    ----------
    name
        Unique within the probe: the module, with ``#2`` and so on where it is used again.
    module
        The innermost module that it runs in (``""``: the root).
    fused
        Whether one kernel computes it, so that its probabilities are never written down.
    heads, queries, keys
        Sizes. ``allowed`` is the mean number of keys that the mask leaves to a query.
    logit_max, logit_std
        Largest magnitude and standard deviation of the logits that are not masked.
    entropy
        Mean entropy of the rows, as a share of the logarithm of the number of keys allowed: 1 for a plain average, 0
        where each row looks at one key (``nan``: no row has a choice).
    saturated
        Share of the rows whose largest probability is above 0.99, of those that have a choice.
    similarity, mixed
        Mean cosine between two tokens of a sequence: of the values that go in, and of what comes out. At 1 all tokens
        are the same (rank collapse). Keys that no query may look at are left out.
    rank
        Effective rank of the values, ``tr(G)² / tr(G²)`` of the Gram matrix of the tokens, a mean over samples: 1
        where all are multiples of one vector.
    nonfinite
        Number of logits that are NaN or infinite without being masked. The other figures leave their rows out.
    """

    name: str
    module: str
    fused: bool
    heads: int
    queries: int
    keys: int
    allowed: float
    logit_max: float
    logit_std: float
    entropy: float
    saturated: float
    similarity: float = math.nan
    mixed: float = math.nan
    rank: float = math.nan
    nonfinite: int = 0
    order: int = 0


class Rows(NamedTuple):
    """What all rows of logits of one attention show together; ``looked_at``: which keys any query may look at."""

    allowed: float
    logit_max: float
    logit_std: float
    entropy: float
    saturated: float
    nonfinite: int
    looked_at: Tensor


Piece = Callable[[slice, slice, slice], tuple[Tensor, Tensor]]
"""Logits of some (samples, heads, queries), and which of them are allowed; both of these three axes and the keys."""


def given(logits: Tensor) -> tuple[Piece, tuple[int, ...]]:
    """Take logits that were written down, any axes before (queries, keys); what is far below all others is masked."""
    while logits.dim() < 4:  # noqa: PLR2004 - samples, heads, queries, keys
        logits = logits.unsqueeze(0)
    logits = logits.flatten(0, -4)

    def piece(samples: slice, heads: slice, queries: slice) -> tuple[Tensor, Tensor]:
        values = _exact(logits[samples, heads, queries])
        return values, ~(values < HIDDEN)

    return piece, tuple(logits.shape)


def recomputed(
    query: Tensor, key: Tensor, *, scale: float | None = None, mask: Tensor | None = None, causal: bool = False
) -> tuple[Piece, tuple[int, ...]]:
    """Compute logits from queries and keys as `torch.nn.functional.scaled_dot_product_attention` does.

    Parameters
    ----------
    query, key
        (samples, heads, tokens, features); there may be fewer heads of keys, each for a group of queries.
    mask
        Added to the logits, or what may be looked at where it is boolean; broadcast to them.
    causal
        Whether query i may look at the keys up to i only.
    """
    samples, heads, queries, width = query.shape
    keys = key.shape[-2]
    scale = width**-0.5 if scale is None else scale
    group = heads // key.shape[1]
    shape = (samples, heads, queries, keys)
    mask = None if mask is None else mask.expand(shape)
    places = torch.arange(keys, device=query.device)

    def piece(of: slice, among: slice, rows: slice) -> tuple[Tensor, Tensor]:
        index = torch.arange(heads, device=key.device)[among] // group
        values = _exact(query[of, among, rows]) @ _exact(key[of][:, index]).mT * scale
        allowed = torch.ones((), dtype=torch.bool, device=query.device)
        if causal:
            allowed = places <= torch.arange(queries, device=query.device)[rows, None]
        if mask is not None:
            part = mask[of, among, rows]
            allowed = allowed & (part if part.dtype is torch.bool else ~(part < HIDDEN))
            values = values if part.dtype is torch.bool else values + part
        return values, allowed.expand_as(values)

    return piece, shape


def look(piece: Piece, shape: Sequence[int]) -> Rows:
    """Read all rows of an attention's logits, slice by slice, so that memory stays bounded.

    Parameters
    ----------
    piece
        Gives the logits of a slice; `given` and `recomputed` make one.
    shape
        (samples, heads, queries, keys).
    """
    parts, used = [], None
    for where in _slices(shape):
        values, allowed = piece(*where)
        parts.append(_sums(values, allowed))
        if used is None:
            used = torch.zeros(*shape[:2], shape[3], dtype=torch.bool, device=values.device)
        used[where[0], where[1]] |= allowed.any(-2)
    if used is None:
        nothing = math.nan
        return Rows(nothing, nothing, nothing, nothing, nothing, 0, torch.zeros(0))
    sums = torch.stack(parts)
    largest, (count, first, rows, choosing, entropy, certain, odd) = sums[:, 0].max(), sums[:, 1:8].sum(0)
    mean = first / count
    around = (sums[:, 8] + sums[:, 1] * (sums[:, 2] / sums[:, 1].clamp(min=1) - mean).square()).sum()
    return Rows(
        allowed=float((count + odd) / rows),
        logit_max=float(largest),
        logit_std=float((around / count).sqrt()),
        entropy=float(entropy / choosing),
        saturated=float(certain / choosing),
        nonfinite=int(odd),
        looked_at=used,
    )


def _slices(shape: Sequence[int]) -> Iterator[tuple[slice, slice, slice]]:
    samples, heads, queries, keys = (max(size, 1) for size in shape)
    if math.prod(shape) == 0:
        return
    step = min(queries, -(-math.prod(shape) // _MOST))
    read = -(-queries // step)
    rows = min(read, max(1, _SLICE // keys))
    some = min(heads, max(1, _SLICE // (keys * read)))
    of = min(samples, max(1, _SLICE // (keys * read * heads)))
    yield from itertools.product(
        (slice(start, start + of) for start in range(0, samples, of)),
        (slice(start, start + some) for start in range(0, heads, some)),
        (slice(start, start + rows * step, step) for start in range(0, queries, rows * step)),
    )


def _sums(values: Tensor, allowed: Tensor) -> Tensor:
    """Largest magnitude, then sums over the rows of a slice, in float64, then the squares around the slice's mean."""
    odd = allowed & ~values.isfinite()
    sound = allowed & ~odd
    numbers = values.masked_fill(~sound, 0)
    count, total = sound.sum(), numbers.sum(dtype=torch.float64)
    middle = (total / count.clamp(min=1)).to(values.dtype)
    around = (values - middle).masked_fill_(~sound, 0).square_().sum(dtype=torch.float64)
    around -= count * (middle.double() - total / count.clamp(min=1)).square()
    keys = allowed.sum(-1)
    chooses = (keys > 1) & ~odd.any(-1)
    logs = torch.log_softmax(values.masked_fill(~sound, -math.inf), -1)
    chances = logs.exp()
    entropy = -(chances * logs.masked_fill_(~sound, 0)).sum(-1) / keys.clamp(min=2).log()
    known = entropy.masked_fill(~chooses, 0).sum()
    certain = (chances.amax(-1) > CERTAIN) & chooses
    figures = (
        numbers.abs().max(),
        count,
        total,
        (keys > 0).sum(),
        chooses.sum(),
        known,
        certain.sum(),
        odd.sum(),
        around,
    )
    return torch.stack([figure.double() for figure in figures])


def similarity(tokens: Tensor, used: Tensor | None = None) -> float:
    """Mean cosine between two tokens of a sequence, a mean over the sequences.

    Parameters
    ----------
    tokens
        (samples, tokens, features).
    used
        (samples, tokens): which to look at; all by default. Tokens that are zero have no direction and are left out.
    """
    tokens = _exact(tokens)
    sizes = torch.linalg.vector_norm(tokens, dim=-1)
    known = sizes > 0 if used is None else used & (sizes > 0)
    unit = (tokens / sizes.unsqueeze(-1)).masked_fill(~known.unsqueeze(-1), 0)
    count = known.sum(-1).double()
    together = unit.sum(-2).double().square().sum(-1)
    several = count > 1
    return float(((together - count) / (count * (count - 1)))[several].mean())


def effective_rank(tokens: Tensor, used: Tensor | None = None) -> float:
    """``tr(G)² / tr(G²)`` of the Gram matrix of the tokens of a sequence, a mean over the sequences.

    Parameters
    ----------
    tokens, used
        As `similarity` takes them.

    Source: the participation ratio; Dong et al. 2021 on why attention without skips takes it to one.
    """
    tokens = _exact(tokens)
    tokens = tokens if used is None else tokens.masked_fill(~used.unsqueeze(-1), 0)
    tokens = tokens / tokens.abs().amax((-2, -1), keepdim=True)  # squares of squares would leave the type's range
    gram = tokens @ tokens.mT if tokens.shape[-2] <= tokens.shape[-1] else tokens.mT @ tokens
    ranks = tokens.double().square().sum((-2, -1)).square() / gram.double().square().sum((-2, -1))
    return float(ranks[ranks.isfinite()].mean())


def side_by_side(values: Tensor, samples: int) -> Tensor:
    """Put the heads of values, (…, heads, tokens, features), side by side: (samples, tokens, features of all heads).

    Where heads cannot be told from samples each stands for itself. Only the first samples are kept of very many.
    """
    values = values.flatten(0, -3) if values.dim() > 2 else values.unsqueeze(0)  # noqa: PLR2004 - tokens, features
    count = samples if samples > 0 and len(values) % samples == 0 else len(values)
    values = values.reshape(count, -1, *values.shape[1:])
    enough = max(1, _TOKENS // max(values[0].numel(), 1))
    return values[:enough].movedim(1, 2).flatten(2)


def _exact(values: Tensor) -> Tensor:
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))


def of_samples(looked_at: Tensor, samples: int, kept: int) -> Tensor:
    """Which tokens of the first ``kept`` sequences any query of any head may look at."""
    flat = looked_at.flatten(0, 1)
    count = samples if samples > 0 and len(flat) % samples == 0 else len(flat)
    found: Tensor = flat.reshape(count, -1, flat.shape[-1]).any(1)[:kept]
    return found


def bound(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an operator by their names, defaults left out."""
    names = [argument.name for argument in function._schema.arguments]  # noqa: SLF001 - its public description
    return {**dict(zip(names, args, strict=False)), **kwargs}
