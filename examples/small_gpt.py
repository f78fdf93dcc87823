"""Sound and sick on purpose: a small GPT that learns the first lines of Python's own help on classes by heart.

``recipe`` is sound: normalization before every branch, weights of 0.02 as GPT-2 has them. ``sick`` draws all weights
with standard deviation one: every softmax sits in a corner where it has no slope, the first loss is four times that of
guessing, and the training is spent on coming down from where the initialization put it. Look at either:

    graddoctor check examples/small_gpt.py
    graddoctor check examples/small_gpt.py:sick
"""

from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import DataLoader

from graddoctor import Recipe

CONTEXT, WIDTH, HEADS, BLOCKS = 24, 48, 4, 3

text = topics["class"][:400]
letters = sorted(set(text))
tokens = torch.tensor([letters.index(letter) for letter in text])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.think = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query_key_value(self.before_attention(x)).unflatten(-1, (3, HEADS, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.think(x)


class GPT(nn.Module):
    def __init__(self, std: float) -> None:
        super().__init__()
        self.letter = nn.Embedding(len(letters), WIDTH)
        self.position = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(letters)))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.letter(x) + self.position.weight))


def batches() -> DataLoader[Tensor]:
    """Every piece of the text that is one letter longer than the context, in random order."""
    return DataLoader(tokens.unfold(0, CONTEXT + 1, 1), batch_size=16, shuffle=True)


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


recipe = Recipe(
    model=lambda: GPT(std=0.02),
    loss=loss,
    batches=batches,
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3),
    epochs=16,
)

sick = recipe.with_(model=lambda: GPT(std=1.0))
