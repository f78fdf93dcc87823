"""Half precision: gradients that float16 rounds to zero, and a loss scale that brings them back."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

import graddoctor as gd
from graddoctor.lab import digits
from graddoctor.lab.experiment import Experiment, Picture, Question, cross
from graddoctor.lab.stacks import Start, stack
from graddoctor.lab.table import Measured, Numbers, Table
from graddoctor.remedies.plain.loss_scale import scaled_loss

DEPTH = 10
SCALE = 2.0**16  # where torch's GradScaler begins
SCALED = "float16, loss scaled"
PRECISIONS = {"float32": None, "float16": torch.float16, SCALED: torch.float16, "bfloat16": torch.bfloat16}
STARTS: dict[str, Start | None] = {"torch's start": None, "Xavier's start": nn.init.xavier_normal_}
SOME, MANY = 10_000, 1_000_000  # terms of a mean: a batch of images has as many pixels, a batch of texts as many tokens


def averaged(model: nn.Module, batch: tuple[Tensor, Tensor], *, terms: int) -> Tensor:
    """Take the loss as one term of a mean: of so many pixels or tokens, of which the others are learned already."""
    return digits.loss(model, batch) / terms


def measure(seed: int, start: str, precision: str, terms: int, rate: float) -> Measured:
    """Look at what is lost of the gradient at the start, then train under autocast."""
    plain = partial(averaged, terms=terms)
    loss = partial(scaled_loss, original=plain, scale=SCALE) if precision == SCALED else plain
    recipe = digits.recipe(
        partial(stack, DEPTH, nn.Tanh, start=STARTS[start]),
        seed=seed,
        rate=rate,
        # an eps below every gradient: Adam's own would stop what precision does not
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=rate, eps=1e-20),
        scheduler=lambda optimizer, steps: LinearLR(optimizer, 1.0, 0.0, steps),
        epochs=15,
        precision=PRECISIONS[precision],
    )
    model, batch = recipe.model(), digits.batch()
    true, seen = _gradients(model, batch, plain, None), _gradients(model, batch, loss, recipe.precision)
    lost = [float(((s == 0) & (t != 0)).sum() / (t != 0).sum()) for s, t in zip(seen, true, strict=True)]
    accuracy = gd.train(recipe.with_(loss=loss)).evaluation or 0.0
    return {"lost": float(np.mean(lost)), "layers": lost, "accuracy": accuracy}


def _gradients(model: nn.Module, batch: Any, loss: Any, precision: torch.dtype | None) -> list[Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        value = loss(model, batch)
    value.backward()
    return [weight.grad for weight in model.parameters() if weight.grad is not None and weight.ndim > 1]


def _short(table: Table, precision: str) -> Numbers:
    """By how much the accuracy stays below float32's, each at its best rate."""
    best = partial(table.tuned, "accuracy", over="rate", start="torch's start", terms=MANY)
    return best(precision="float32") - best(precision=precision)


def _share(table: Table, precision: str) -> Numbers:
    rate = table.each("rate")[0]  # all rates start alike
    return table.of("lost", precision=precision, start="torch's start", terms=MANY, rate=rate)


EXPERIMENT = Experiment(
    name="half-precision",
    title="Half precision and loss scaling",
    claim="In float16 small gradients round to zero; scaling the loss brings them back, and bfloat16 needs no scaling.",
    source="Micikevicius et al. 2018, Mixed Precision Training, section 3.2 and figure 3",
    expected="The activation gradients of a Multibox SSD detector are mostly too small for float16 (31 % of all values "
    "become zero in it, 5.3 % stay, by NVIDIA's guide), and it diverges; with a loss scale of 8 it trains as in "
    "float32. float16 ends at 6e-8, bfloat16 where float32 does.",
    scaled="10 tanh layers on digits under autocast on the CPU, with Adam, which asks for no size of the gradient. The "
    "detector's many places are imitated by a loss that is divided as a mean over them would be. That training fails, "
    "and that a scale of 65,536 restores it, must carry over; the size at which it happens need not.",
    lesson="Underflow wants small gradients: a mean over many terms, or depth that takes the rest. Scale the loss, or "
    "use bfloat16. A start that keeps the gradient's size through depth is worth decades of room.",
    measure=measure,
    arms=cross(start=tuple(STARTS), precision=tuple(PRECISIONS), terms=(1, 100, SOME, MANY), rate=(0.003, 0.01)),
    quick=cross(start=("torch's start",), precision=tuple(PRECISIONS), terms=(SOME, MANY), rate=(0.003,))
    + cross(start=("torch's start",), precision=("float16",), terms=(1,), rate=(0.003,))
    + cross(start=("Xavier's start",), precision=("float16",), terms=(1, SOME, MANY), rate=(0.003,)),
    questions=(
        Question(
            "In float32 the network learns, small as its loss is.",
            lambda table: table.tuned("accuracy", over="rate", start="torch's start", precision="float32", terms=MANY),
            above=0.5,
            unit="accuracy",
            control=True,
        ),
        Question(
            "In float16 a quarter of the gradient rounds to zero.",
            lambda table: _share(table, "float16"),
            above=0.25,
            unit="share of the weights",
        ),
        Question("So the network does not learn.", lambda table: _short(table, "float16"), above=0.3, unit="accuracy"),
        Question(
            "Scaling the loss brings it back.", lambda t: _share(t, SCALED), below=0.05, unit="share of the weights"
        ),
        Question("And the network learns.", lambda table: _short(table, SCALED), below=0.1, unit="accuracy"),
        Question(
            "bfloat16 needs no scaling.",
            lambda table: _short(table, "bfloat16"),
            below=0.1,
            unit="accuracy",
        ),
    ),
    pictures=(
        Picture(
            "accuracy",
            "test accuracy",
            x="terms",
            x_title="terms that the loss is a mean of",
            by="precision",
            panel="start",
            where={"rate": 0.003},
            log_x=True,
        ),
        Picture(
            "layers",
            f"share of gradients that round to zero, mean of {SOME:,}",
            x_title="layer",
            by="precision",
            panel="start",
            where={"rate": 0.003, "terms": SOME},
            first=1,
        ),
    ),
    verdict="reproduced",
)
