"""Operators between tanh layers, as users write them: the expected budget against the measured one."""

import math

import pytest
import torch
from test_expected import pair
from torch import nn
from torch.nn.functional import normalize, softmax
from torch.utils.checkpoint import checkpoint

from graddoctor.observe.tape import Call, Ref
from graddoctor.theory.rules.attention import _open

WIDTH = 128


class Between(nn.Module):
    """Tanh layers with something done behind each; the something may use a layer of its own."""

    def __init__(self, what, depth=6):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth + 1))
        self.own = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.what = what
        for layer in (*self.layers, *self.own):
            nn.init.normal_(layer.weight, std=1.1 / WIDTH**0.5)

    def forward(self, x):
        for layer, own in zip(self.layers[:-1], self.own, strict=True):
            x = self.what(torch.tanh(layer(x)), own)
        return self.layers[-1](x)


def ungraded(x, layer):
    with torch.no_grad():
        t = layer(x)
    return x - t


def by_hand(x, _):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)


WHATS = {
    "a tenth is left of the gradient": lambda x, _: 0.1 * x + (0.9 * x).detach(),
    "rounded straight through": lambda x, _: x + (torch.round(8 * x) / 8 - x).detach(),
    "a layer without a graph": ungraded,
    "layer norm by hand": by_hand,
    "layer norm by hand, as a product": lambda x, _: (
        (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-6)
    ),
    "standard deviation": lambda x, _: x / (x.std(-1, keepdim=True) + 1e-6),
    "unit length": lambda x, _: normalize(x, dim=-1) * WIDTH**0.5,
    "divided by what was learned": lambda x, layer: 5 * x / (5 + torch.sigmoid(layer(x))),
    "leaky by hand": lambda x, _: torch.where(x > 0, x, 0.1 * x),
}


@pytest.mark.parametrize("name", WHATS)
def test_what_is_done_between_layers(name):
    torch.manual_seed(1)
    theory, real = pair(Between(WHATS[name]), torch.randn(32, WIDTH))
    assert theory.budget.cut is None
    assert abs(theory.budget.total - real.total) < 0.15


class Attends(nn.Module):
    """Attention without a skip."""

    def __init__(self, product, heads=1):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(4))
        self.out, self.product, self.heads = nn.Linear(WIDTH, WIDTH), product, heads

    def forward(self, x):
        for layer in self.maps:
            q, k, v = (self.split(one) for one in layer(x).chunk(3, -1))
            x = self.product(softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1), v)
            x = x if self.heads == 1 else x.transpose(1, 2).flatten(2)
        return self.out(x)

    def split(self, x):
        return x if self.heads == 1 else x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_by_hand_is_attention(heads):
    torch.manual_seed(1)
    theory, real = pair(Attends(torch.matmul, heads), torch.randn(8, 12, WIDTH))
    assert theory.unknown == ()
    torch.manual_seed(1)
    batched = pair(Attends(torch.bmm), torch.randn(8, 12, WIDTH))[0]
    assert theory.budget.total == pytest.approx(batched.budget.total, abs=0.05)
    assert abs(theory.budget.total - real.total) < 1.0


class Stepwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(4))
        self.out = nn.Linear(WIDTH, 8)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=True)
        return self.out(x)


def test_blocks_are_followed_through_re_entrant_checkpoints():
    torch.manual_seed(0)
    theory, real = pair(Stepwise(), torch.randn(16, 32))
    assert [row.decades for row in theory.budget.rows] == pytest.approx([row.decades for row in real.rows], abs=0.05)


def test_four_hundred_decades_are_no_zero():
    torch.manual_seed(0)
    layers = [layer for _ in range(200) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
    theory, _ = pair(nn.Sequential(*layers, nn.Linear(32, 8)), torch.randn(8, 32))
    assert theory.budget.cut is None
    assert theory.budget.total == pytest.approx(-170, abs=8)


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w: torch.addmm(x, x, w.T, alpha=0.1),
        lambda x, w: torch.addmm(x, x, w.T, beta=0.5, alpha=2.0),
        lambda x, w: torch.addmm(torch.ones(WIDTH, dtype=x.dtype), x, w.T, beta=0.3),
    ],
    ids=["alpha", "both", "bias"],
)
def test_factors_of_a_product_count(product):
    torch.manual_seed(1)
    theory, real = pair(Between(lambda x, layer: product(x, layer.weight)), torch.randn(64, WIDTH))
    assert abs(theory.budget.total - real.total) < 0.2


def masked(weights):
    torch.manual_seed(1)
    attention = nn.ModuleList(nn.MultiheadAttention(WIDTH, 1, batch_first=True) for _ in range(4))

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.attention = nn.Linear(WIDTH, WIDTH), attention

        def forward(self, x):
            shut = torch.triu(torch.full((12, 12), -math.inf, dtype=x.dtype), 1)
            x = self.first(x)
            for one in self.attention:
                x = one(x, x, x, attn_mask=shut, need_weights=weights)[0]
            return x

    theory, real = pair(Masked(), torch.randn(8, 12, WIDTH))
    return theory.budget.total, real.total


def test_a_mask_is_seen_whichever_way_attention_is_computed():
    (by_hand, real), (fused, _) = masked(weights=True), masked(weights=False)
    assert by_hand == pytest.approx(fused, abs=0.1)
    assert abs(by_hand - real) < 0.4


KERNELS = [
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_gpus_kernels_have_their_arguments_in_another_order(kernel):
    def call(*arguments, **options):
        refs = tuple(Ref(index, (2, 1, 3, 8)) for index in range(3))
        return Call("attention", kernel, (*refs, *arguments), options, refs[:1], (None,), 0, "")

    mask = torch.tensor([[0.0, -math.inf, -math.inf], [0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]])
    assert _open(call(None, True), 3, 3).tolist() == [3]
    assert _open(call(mask, True), 3, 3).tolist() == [1, 2, 3]
    assert _open(call(None, True, 0.0, True), 3, 3).tolist() == [1, 2, 3]


def test_what_has_no_theory_is_named():
    def pooled(side, step):
        layers = [nn.Conv2d(3, 16, 3), nn.Tanh(), nn.AvgPool2d(side, step), nn.Conv2d(16, 16, 3)]
        return pair(nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(8)), torch.randn(4, 3, 16, 16))

    for side, step, unknown in ((3, 1, ("2",)), (3, 2, ()), (2, 2, ())):
        theory, real = pooled(side, step)
        assert theory.unknown == unknown
        assert unknown or abs(theory.budget.total - real.total) < 0.1
    theory, _ = pair(Between(lambda x, layer: (x.exp() @ layer(x).T) @ x), torch.randn(16, WIDTH))
    assert theory.unknown
