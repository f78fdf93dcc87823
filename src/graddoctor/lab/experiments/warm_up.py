"""Pre-norm and post-norm transformers, with and without warm-up."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import graddoctor as gd
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.table import Measured

LAYERS, WIDTH, LENGTH, TOKENS = 6, 32, 8, 8
STEPS, WARM = 300, 150
RATES = (0.001, 0.003, 0.01)
NETS = {"post": "norm after each branch", "pre": "norm before each branch"}


class Reverser(nn.Module):
    """An encoder that says a sequence of tokens backwards."""

    def __init__(self, net: str) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, WIDTH), nn.Parameter(torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=net == "pre")
        self.encoder = nn.TransformerEncoder(
            layer, LAYERS, norm=nn.LayerNorm(WIDTH) if net == "pre" else None, enable_nested_tensor=False
        )
        self.output = nn.Linear(WIDTH, TOKENS)
        for weights in self.encoder.parameters():
            if weights.dim() > 1:
                nn.init.xavier_uniform_(weights)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give logits of shape (batch, length, tokens)."""
        logits: Tensor = self.output(self.encoder(self.tokens(tokens) + self.places))
        return logits


class Sequences:
    """New sequences for every step."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.randint(TOKENS, (32, LENGTH)) for _ in range(STEPS))

    def __len__(self) -> int:
        return STEPS


def loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cross entropy of the reversed sequence."""
    return cross_entropy(model(tokens).flatten(0, 1), tokens.flip(1).flatten())


def measure(seed: int, net: str, warm_up: bool, rate: float) -> Measured:  # noqa: FBT001 - a setting
    """Train with Adam, the rate rising over the first half of the steps or not."""

    def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / WARM, 1.0) if warm_up else 1.0
        )

    recipe = gd.Recipe(
        model=lambda: Reverser(net),
        loss=loss,
        batches=Sequences,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=rate),
        scheduler=schedule,
        epochs=1,
        seed=seed,
    )
    losses = gd.train(recipe).losses
    last = float(losses[-30:].mean())
    return {"learnt": 1 - min(last, math.log(TOKENS)) / math.log(TOKENS)}


EXPERIMENT = Experiment(
    name="warm-up",
    title="Pre-norm, post-norm and warm-up",
    claim="A post-norm transformer needs warm-up, and a pre-norm one does not.",
    source="Xiong et al. 2020, On layer normalization in the transformer architecture (theorem 1, section 4)",
    expected="At the start the gradient of the last layers is of order d sqrt(ln d) behind post-norm, and smaller by "
    "sqrt(L) behind pre-norm. On a translation task a post-norm transformer under Adam ends at 8.45 BLEU without "
    "warm-up, where it reaches about 34 with it; a pre-norm one does without.",
    scaled="6 layers of 32 numbers that say 8 tokens backwards, 300 steps of Adam. That post-norm needs warm-up at a "
    "rate at which pre-norm does not must carry over; the rate itself need not.",
    lesson="Where a transformer only trains with warm-up, look where its norms stand. At small rates both kinds "
    "train without: warm-up buys the large ones.",
    measure=measure,
    arms=cross(net=tuple(NETS), warm_up=(False, True), rate=RATES),
    quick=cross(net=("post",), warm_up=(False, True), rate=(0.01,))
    + cross(net=("pre",), warm_up=(False,), rate=(0.01,)),
    questions=(
        Question(
            "At a rate of 0.01 a post-norm transformer learns with warm-up and does not without.",
            lambda table: table.difference("learnt", {"warm_up": True}, {"warm_up": False}, net="post", rate=0.01),
            above=0.3,
            unit="of what can be learnt",
        ),
        Question(
            "A pre-norm one learns without.",
            lambda table: table.of("learnt", net="pre", warm_up=False, rate=0.01),
            above=0.7,
            unit="of what can be learnt",
        ),
    ),
    pictures=(
        Picture(
            "learnt",
            "learnt of the task (best 1)",
            x="rate",
            x_title="learning rate",
            by="warm_up",
            panel="net",
            log_x=True,
            names={"warm_up": {False: "no warm-up", True: "150 steps of warm-up"}, "net": NETS},
        ),
    ),
    verdict="reproduced",
)
