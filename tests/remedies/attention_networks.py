"""Small transformers of several hands, and what they are asked: the first token, or to say again what they heard."""

import torch
from torch import nn
from torch.nn import functional

from graddoctor.recipe import Recipe


def words(count=128, length=6, kinds=8, seed=0):
    tokens = torch.randint(1, kinds + 1, (count, length), generator=torch.Generator().manual_seed(seed))
    return tokens, tokens[:, 0] - 1


def recall(build, spoil=lambda model: None, *, lr=3e-3, epochs=8, size=32, **options):
    """The first token is the class."""
    tokens, first = words()

    def model(seed=0):
        torch.manual_seed(seed)
        net = build()
        with torch.no_grad():
            spoil(net)
        return net

    return Recipe(
        model=model,
        loss=lambda net, batch: functional.cross_entropy(_logits(net(batch[0])), batch[1]),
        batches=list(zip(tokens.split(size), first.split(size), strict=True)),
        optimizer=lambda net: torch.optim.Adam(net.parameters(), lr=lr, **options),
        epochs=epochs,
    )


def _logits(output):
    return output if isinstance(output, torch.Tensor) else output.logits


def scaled(factor, *parts):
    def spoil(model):
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.mul_(factor)

    return spoil


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
        return self.project((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Norms before the branches, behind the sums, or none."""

    def __init__(self, width, order):
        super().__init__()
        self.order, self.attention = order, Attention(width, 4)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm1, self.norm2 = (nn.Identity() if order == "none" else nn.LayerNorm(width) for _ in range(2))

    def forward(self, x):
        if self.order == "post":
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.feed(x))
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, order, blocks, width=16):
        super().__init__()
        self.tokens, self.places = nn.Embedding(9, width), nn.Embedding(6, width)
        self.blocks = nn.Sequential(*(Block(width, order) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width) if order == "pre" else nn.Identity()
        self.out = nn.Linear(width, 8)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.out(self.norm(self.blocks(x)).mean(1))


def by_hand(order="pre", blocks=2):
    return lambda: Transformer(order, blocks)


class Packed(nn.Module):
    """Queries, keys and values from one layer, and a fused kernel."""

    def __init__(self, width=16, heads=4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(9, width), nn.Embedding(6, width)
        self.qkv, self.proj, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, 8)
        self.heads = heads

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out((x + self.proj(mixed)).mean(1))


class Torch(nn.Module):
    """nn.MultiheadAttention: one parameter holds the three projections."""

    def __init__(self, width=16):
        super().__init__()
        self.tokens, self.places = nn.Embedding(9, width), nn.Embedding(6, width)
        self.mix, self.out = nn.MultiheadAttention(width, 4, batch_first=True), nn.Linear(width, 8)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.out((x + self.mix(x, x, x, need_weights=False)[0]).mean(1))
