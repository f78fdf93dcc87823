"""Readings of attention against a float64 twin that writes everything out."""

import math

import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from graddoctor.observe import attention as reading_of
from graddoctor.observe import probe
from graddoctor.observe.attention import effective_rank, given, look, recomputed, similarity


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def twin(logits, allowed, values):
    """Everything that a reading says, one row after the other: (samples, heads, queries, keys) and the values."""
    logits, values = logits.detach().double(), values.detach().double()
    entropies, certain, kept = [], [], []
    for row, may in zip(logits.flatten(0, 2), allowed.expand_as(logits).flatten(0, 2), strict=True):
        mine = row[may].tolist()
        kept += mine
        if len(mine) < 2:
            continue
        top = max(mine)
        total = math.fsum(math.exp(x - top) for x in mine)
        chances = [math.exp(x - top) / total for x in mine]
        entropies.append(-math.fsum(p * math.log(p) for p in chances if p > 0) / math.log(len(mine)))
        certain.append(max(chances) > 0.99)
    mean = math.fsum(kept) / len(kept)
    cosines, ranks = [], []
    for tokens in values.movedim(1, 2).flatten(2):
        unit = tokens / tokens.norm(dim=-1, keepdim=True)
        pairs = [float(unit[i] @ unit[j]) for i in range(len(unit)) for j in range(len(unit)) if i != j]
        cosines.append(math.fsum(pairs) / len(pairs))
        weights = torch.linalg.eigvalsh(tokens @ tokens.T)
        ranks.append(float(weights.sum() ** 2 / weights.square().sum()))
    return {
        "allowed": len(kept) / logits.flatten(0, 2).shape[0],
        "logit_max": max(map(abs, kept)),
        "logit_std": math.sqrt(math.fsum((x - mean) ** 2 for x in kept) / len(kept)),
        "entropy": math.fsum(entropies) / len(entropies),
        "saturated": sum(certain) / len(certain),
        "similarity": math.fsum(cosines) / len(cosines),
        "rank": math.fsum(ranks) / len(ranks),
    }


SEEN = []


class Attention(nn.Module):
    """One attention in every hand in which it is written; ``way`` says which."""

    def __init__(self, way, *, mask=None, drop=0.0, width=12, heads=3, scale=1.0):
        super().__init__()
        self.way, self.mask, self.drop, self.heads = way, mask, drop, heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        with torch.no_grad():
            self.q.weight.mul_(scale)
        self.soft = nn.Softmax(-1)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        SEEN[:] = q.detach(), k.detach(), v.detach()
        mixed = getattr(self, self.way)(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def sdpa(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, dropout_p=self.drop)

    def causal(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def by_hand(self, q, k, v):
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, -1e9)
        return functional.dropout(torch.softmax(scores, -1), self.drop) @ v

    def by_module(self, q, k, v):
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
        if self.mask is not None:
            scores = scores + torch.zeros(self.mask.shape).masked_fill(~self.mask, torch.finfo(scores.dtype).min)
        return torch.einsum("bhqk,bhkd->bhqd", self.soft(scores), v)

    def keys_first(self, q, k, v):
        scores = k @ q.mT / math.sqrt(q.shape[-1])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask.mT, -math.inf)
        return (v.mT @ scores.softmax(-2)).mT


class Reader(nn.Module):
    def __init__(self, way, **options):
        super().__init__()
        self.mix, self.head = Attention(way, **options), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.mix(x).mean(1))


def loss(model, x):
    return model(x).square().mean()


TRIANGLE = torch.ones(7, 7, dtype=torch.bool).tril()
LOPSIDED = TRIANGLE | (torch.arange(7) < 3)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize(
    ("way", "mask", "drop"),
    [
        ("sdpa", None, 0.0),
        ("sdpa", LOPSIDED, 0.0),
        ("sdpa", LOPSIDED, 0.2),
        ("causal", None, 0.0),
        ("by_hand", None, 0.0),
        ("by_hand", LOPSIDED, 0.2),
        ("by_module", None, 0.0),
        ("by_module", LOPSIDED, 0.0),
        ("keys_first", None, 0.0),
        ("keys_first", LOPSIDED, 0.0),
    ],
)
def test_every_hand_reads_as_the_twin(way, mask, drop, scale):
    torch.manual_seed(0)
    model, x = Reader(way, mask=mask, drop=drop, scale=scale), draw(5, 7, 12)
    look_at = probe(model, loss, [x])
    (seen,) = look_at.attention
    q, k, v = SEEN
    may = TRIANGLE if way == "causal" else torch.ones(7, 7, dtype=torch.bool) if mask is None else mask
    wanted = twin(q.double() @ k.double().mT / 2, may, v)
    assert {name: getattr(seen, name) for name in wanted} == pytest.approx(wanted, rel=2e-4, abs=2e-5)
    assert (seen.module, seen.heads, seen.queries, seen.keys, seen.nonfinite) == ("mix", 3, 7, 7, 0)
    assert seen.fused is (way in {"sdpa", "causal"} and not drop)
    if scale > 1:
        assert seen.saturated > 0.1  # there is something to be told apart
    if drop == 0:
        mixed = (q @ k.mT / 2).masked_fill(~may, -math.inf).softmax(-1) @ v
        assert seen.mixed == pytest.approx(similarity(mixed.movedim(1, 2).flatten(2)), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_the_attention_of_torch(weights, first):
    torch.manual_seed(0)

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.mha, self.head = nn.MultiheadAttention(12, 3, batch_first=first), nn.Linear(12, 2)

        def forward(self, x):
            x = x if first else x.transpose(0, 1)
            late = torch.zeros(5, 7, dtype=torch.bool)
            late[:, 5:] = True
            x, _ = self.mha(x, x, x, key_padding_mask=late, need_weights=weights)
            return self.head(x.mean(1 if first else 0))

    model, x = Torch(), draw(5, 7, 12)
    (seen,) = probe(model, loss, [x]).attention
    q, k, v = (
        part.unflatten(-1, (3, -1)).transpose(1, 2)
        for part in functional.linear(x, model.mha.in_proj_weight, model.mha.in_proj_bias).chunk(3, -1)
    )
    wanted = twin(q @ k.mT / 2, torch.arange(7) < 5, v[..., :5, :])
    assert {name: getattr(seen, name) for name in wanted} == pytest.approx(wanted, rel=2e-4, abs=2e-5)
    assert (seen.name, seen.heads, seen.allowed) == ("mha", 3, 5)


def test_without_a_batch_axis_and_without_heads():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            SEEN[:] = [self.q(x) @ self.k(x).T]
            return torch.softmax(SEEN[0], -1) @ self.v(x)

    model = Bare()
    (seen,) = probe(model, loss, [draw(5, 6)]).attention
    logits = SEEN[0].detach()
    assert (seen.name, seen.module, seen.keys) == ("attention", "", 5)
    assert seen.logit_max == pytest.approx(float(logits.abs().max()))
    assert seen.logit_std == pytest.approx(float(logits.std(correction=0)), rel=1e-4)


def test_a_softmax_that_mixes_no_tokens_is_no_attention():
    class Router(nn.Module):
        """Experts weighed by a softmax, and probabilities at the output."""

        def __init__(self):
            super().__init__()
            self.gate, self.experts = nn.Linear(6, 3), nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            shares = torch.softmax(self.gate(x), -1)
            all_of_them = torch.stack([expert(x) for expert in self.experts], -1)
            return torch.softmax((all_of_them @ shares.unsqueeze(-1)).squeeze(-1), -1)

    assert probe(Router(), loss, [draw(4, 5, 6)]).attention == ()


def test_an_attention_that_is_used_again_has_names_of_its_own():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = Attention("sdpa")

        def forward(self, x):
            return self.mix(self.mix(x))

    seen = probe(Again(), loss, [draw(4, 5, 12)]).attention
    assert [(one.name, one.module, one.order) for one in seen] == [("mix", "mix", 0), ("mix#2", "mix", 1)]


@pytest.mark.parametrize("way", ["sdpa", "by_hand"])
def test_looking_disturbs_nothing(way):
    torch.manual_seed(0)
    model, x = Reader(way, mask=LOPSIDED, drop=0.1), draw(5, 7, 12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    probe(model, loss, [x])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("way", ["sdpa", "by_hand"])
def test_autocast_changes_no_more_than_its_type_does(way):
    torch.manual_seed(0)
    model, x = Reader(way, scale=8.0), draw(5, 7, 12)

    def halved(net, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return net(batch).float().square().mean()

    (exact,), (seen,) = probe(model, loss, [x]).attention, probe(model, halved, [x]).attention
    for name in ("logit_max", "logit_std", "entropy", "rank"):
        assert getattr(seen, name) == pytest.approx(getattr(exact, name), rel=0.05)


def test_logits_that_are_lost_are_counted():
    model, x = Reader("by_hand"), draw(5, 7, 12)
    x[2, 3, 0] = math.nan
    (seen,) = probe(model, loss, [x]).attention
    assert seen.nonfinite == 3 * 13  # of each head, one row and one column
    assert math.isfinite(seen.logit_max)
    assert 0 < seen.entropy < 1


def test_memory_stays_bounded_and_a_sample_says_the_same(monkeypatch):
    q, k = draw(2, 3, 40, 8), draw(2, 3, 40, 8, seed=1)
    whole = look(*recomputed(q, k, causal=True))
    monkeypatch.setattr(reading_of, "_SLICE", 200)
    sizes = []
    piece, shape = recomputed(q, k, causal=True)

    def watched(*where):
        values, allowed = piece(*where)
        sizes.append(values.numel())
        return values, allowed

    sliced = look(watched, shape)
    assert max(sizes) <= 200
    assert sum(sizes) == math.prod(shape)
    assert sliced[:6] == pytest.approx(whole[:6], rel=1e-5)
    assert torch.equal(sliced.looked_at, whole.looked_at)
    monkeypatch.setattr(reading_of, "_MOST", math.prod(shape) // 4)
    sizes.clear()
    sampled = look(watched, shape)
    assert sum(sizes) == math.prod(shape) / 4
    assert sampled.entropy == pytest.approx(whole.entropy, abs=0.05)


def test_few_heads_of_keys_serve_groups_of_queries():
    q, k, v = draw(2, 4, 5, 6), draw(2, 2, 5, 6, seed=1), draw(2, 2, 5, 6, seed=2)
    wanted = twin(q @ k.repeat_interleave(2, 1).mT / math.sqrt(6), torch.ones(5, 5, dtype=torch.bool), v)
    assert look(*recomputed(q, k)).entropy == pytest.approx(wanted["entropy"], rel=1e-5)


@settings(max_examples=25)
@drawn_from(st.integers(0, 10**6), st.floats(0.01, 100.0))
def test_a_factor_on_the_queries_is_one_on_the_logits(seed, factor):
    q, k = draw(2, 2, 6, 4, seed=seed), draw(2, 2, 6, 4, seed=seed + 1)
    one, other = look(*recomputed(q, k)), look(*recomputed(factor * q, k))
    assert other.logit_max == pytest.approx(factor * one.logit_max, rel=1e-4)
    assert other.logit_std == pytest.approx(factor * one.logit_std, rel=1e-4)
    assert (other.entropy < one.entropy) is (factor > 1) or math.isclose(factor, 1, rel_tol=1e-3)


@settings(max_examples=25)
@drawn_from(st.integers(0, 10**6), st.permutations(range(6)))
def test_the_order_of_tokens_is_nothing_to_a_reading(seed, order):
    q, k = draw(2, 2, 6, 4, seed=seed), draw(2, 2, 6, 4, seed=seed + 1)
    tokens = draw(3, 6, 5, seed=seed)
    assert look(*recomputed(q[:, :, order], k[:, :, order]))[:6] == pytest.approx(
        look(*recomputed(q, k))[:6], rel=1e-4, abs=1e-6
    )
    assert similarity(tokens[:, order]) == pytest.approx(similarity(tokens), rel=1e-4, abs=1e-5)
    assert effective_rank(tokens[:, order]) == pytest.approx(effective_rank(tokens), rel=1e-4)


@settings(max_examples=25)
@drawn_from(st.integers(0, 10**6), st.floats(-50, 50))
def test_what_all_logits_of_a_row_share_changes_no_entropy(seed, shift):
    logits = draw(2, 2, 4, 5, seed=seed)
    one, other = look(*given(logits)), look(*given(logits + shift))
    assert other.entropy == pytest.approx(one.entropy, abs=1e-4)
    assert other.logit_std == pytest.approx(one.logit_std, rel=1e-3)


def test_the_ends_of_the_scales():
    even = look(*given(torch.full((2, 2, 4, 8), 3.0)))
    assert (even.entropy, even.saturated, even.logit_std) == (pytest.approx(1), 0, 0)
    sure = look(*given(1000 * torch.eye(8).expand(2, 2, 8, 8)))
    assert (sure.entropy, sure.saturated, sure.logit_max) == (pytest.approx(0, abs=1e-6), 1, 1000)
    alone = look(*given(torch.zeros(2, 2, 4, 1)))
    assert math.isnan(alone.entropy)
    same = draw(3, 1, 6).expand(3, 5, 6)
    assert similarity(same) == pytest.approx(1)
    assert effective_rank(same) == pytest.approx(1)
    assert effective_rank(torch.eye(5).expand(3, 5, 5)) == pytest.approx(5)
    assert effective_rank(1e-25 * torch.eye(5).expand(3, 5, 5)) == pytest.approx(5)


def test_ranks_collapse_without_skips_and_stay_with_them():
    """Dong et al. 2021: pure attention takes all tokens to one."""

    class Stack(nn.Module):
        def __init__(self, *, skips):
            super().__init__()
            self.layers, self.skips = nn.ModuleList(Attention("sdpa") for _ in range(8)), skips

        def forward(self, x):
            for layer in self.layers:
                x = x + layer(x) if self.skips else layer(x)
            return x

    torch.manual_seed(0)
    with_skips, without = (probe(Stack(skips=s), loss, [draw(4, 10, 12)]).attention for s in (True, False))
    assert without[-1].similarity > 0.999
    assert without[-1].rank == pytest.approx(1, abs=0.01)
    assert with_skips[-1].similarity < 0.8
    assert with_skips[-1].rank > 1.5
