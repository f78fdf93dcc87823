"""Which remedy of recurrent networks cures what, at which rate: recall and adding over 40 to 100 steps.

    nice python benchmarks/recurrent_remedies.py

Each patient is trained as given and with each remedy that is prescribed for it, at two rates of Adam, without a clip;
beside it a repair by hand: an LSTM of PyTorch with a forget bias of 3, clipped at norm 1. The table has the loss on
data that was not trained on, as a share of what a constant prediction has: 0 is perfect, 1 is nothing learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from graddoctor.recipe import Recipe
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.gating import forget_bias, gated_cells, gates_opened
from graddoctor.remedies.recurrent_start import identity, recurrence_restarted, rescaled
from graddoctor.remedies.remedy import Remedy
from graddoctor.train import train

RATES = (3e-3, 1e-2)
SAMPLES, BATCH, EPOCHS, WIDTH = 960, 32, 10, 24
TABLE = Path(__file__).parent / "results" / "recurrent_remedies.md"
PRESCRIBERS = (gated_cells, gates_opened, forget_bias, recurrence_restarted, identity, rescaled)

Data = tuple[torch.Tensor, torch.Tensor]


def recall(steps: int, count: int, seed: int) -> Data:
    """Which of four classes was shown in the first step; noise in the others, on a channel of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    x = torch.zeros(count, steps, 5)
    x[torch.arange(count), 0, labels] = 1.0
    x[:, 1:, 4] = torch.randn(count, steps - 1, generator=generator)
    return x, labels


def adding(steps: int, count: int, seed: int) -> Data:
    """Sum of the two marked ones of many numbers (Hochreiter and Schmidhuber 1997)."""
    generator = torch.Generator().manual_seed(seed)
    values, marks = torch.rand(count, steps, generator=generator), torch.zeros(count, steps)
    for low, high in ((0, steps // 2), (steps // 2, steps)):
        marks[torch.arange(count), torch.randint(low, high, (count,), generator=generator)] = 1.0
    return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)


class Reader(nn.Module):
    """A recurrent layer, its last output read out."""

    def __init__(self, kind: type[nn.RNNBase], inputs: int, outputs: int, **options: str) -> None:
        super().__init__()
        self.cell, self.head = kind(inputs, WIDTH, batch_first=True, **options), nn.Linear(WIDTH, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read a batch of sequences."""
        return self.head(self.cell(x)[0][:, -1])


class Spelled(nn.Module):
    """A sigmoid cell that is written by hand."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.x2h, self.h2h, self.head = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read a batch of sequences."""
        state = x.new_zeros(len(x), WIDTH)
        for x_t in x.unbind(1):
            state = torch.sigmoid(self.x2h(x_t) + self.h2h(state))
        return self.head(state)


def gates(kind: type[nn.RNNBase], bias: float, inputs: int, outputs: int) -> nn.Module:
    """Build an LSTM or a GRU whose second gate, the one that remembers, has one bias."""
    model = Reader(kind, inputs, outputs)
    with torch.no_grad():
        model.cell.bias_ih_l0[WIDTH : 2 * WIDTH] = bias
        model.cell.bias_hh_l0[WIDTH : 2 * WIDTH] = 0.0
    return model


def rectified(inputs: int, outputs: int) -> nn.Module:
    """Build an identity recurrence with a gain of 1.2."""
    model = Reader(nn.RNN, inputs, outputs, nonlinearity="relu")
    with torch.no_grad():
        model.cell.weight_hh_l0.copy_(1.2 * torch.eye(WIDTH))
    return model


def wild(inputs: int, outputs: int) -> nn.Module:
    """Build a ReLU cell whose recurrent weights have a spectral radius of about three."""
    model = Reader(nn.RNN, inputs, outputs, nonlinearity="relu")
    nn.init.normal_(model.cell.weight_hh_l0, std=3 * WIDTH**-0.5)
    return model


@dataclass(frozen=True)
class Patient:
    """A network, and a task."""

    name: str
    build: Callable[[int, int], nn.Module]
    task: Callable[[int, int, int], Data]
    steps: int

    def recipe(self, rate: float) -> Recipe:
        """Make its training at a rate."""
        x, y = self.task(self.steps, SAMPLES, 0)
        return Recipe(
            model=partial(self.build, x.shape[-1], self.outputs),
            loss=lambda model, batch: self.loss(model(batch[0]), batch[1]),
            batches=list(zip(x.split(BATCH), y.split(BATCH), strict=True)),
            optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=rate),
            epochs=EPOCHS,
        )

    @property
    def outputs(self) -> int:
        """How many numbers it answers with."""
        return 1 if self.task is adding else 4

    @property
    def loss(self) -> Callable[..., torch.Tensor]:
        """What it is trained on."""
        return functional.mse_loss if self.task is adding else functional.cross_entropy

    def left(self, recipe: Recipe) -> float:
        """Train, and measure the loss on new data as a share of a constant prediction's."""
        model = train(recipe).model.eval()
        x, y = self.task(self.steps, 400, 1)
        constant = y.mean(0, keepdim=True).expand_as(y) if self.task is adding else torch.zeros(len(y), 4)
        with torch.no_grad():
            return float(self.loss(model(x), y) / self.loss(constant, y))


PATIENTS = (
    *(Patient(f"tanh, recall {steps}", partial(Reader, nn.RNN), recall, steps) for steps in (60, 100)),
    Patient("tanh, adding 60", partial(Reader, nn.RNN), adding, 60),
    Patient("sigmoid by hand, recall 40", Spelled, recall, 40),
    Patient("IRNN with gain 1.2, recall 60", rectified, recall, 60),
    Patient("ReLU of radius 3, recall 60", wild, recall, 60),
    Patient("LSTM with forget bias -5, recall 60", partial(gates, nn.LSTM, -5.0), recall, 60),
    Patient("GRU with update bias -5, recall 60", partial(gates, nn.GRU, -5.0), recall, 60),
)


def remedies(given: Recipe) -> Iterator[Remedy]:
    """Prescribe everything that recurrent networks can be given."""
    facts = Facts(given)
    for prescriber in PRESCRIBERS:
        answer = prescriber(facts)
        yield from [answer] if isinstance(answer, Remedy) else answer or []


def rows(patient: Patient) -> Iterator[str]:
    """Train a patient in every way, and write a row of the table for each."""
    by_hand = partial(gates, nn.LSTM, 3.0, patient.task(2, 1, 0)[0].shape[-1], patient.outputs)
    clip = partial(nn.utils.clip_grad_norm_, max_norm=1.0)
    arms = {"as given": lambda given: given, "by hand": lambda given: given.with_(model=by_hand, clip=clip)}
    arms |= {remedy.name: remedy for remedy in remedies(patient.recipe(RATES[0]))}
    for name, treat in arms.items():
        left = [patient.left(treat(patient.recipe(rate))) for rate in RATES]
        row = f"| {patient.name} | {name} | " + " | ".join(f"{value:.3f}" for value in left) + " |"
        print(row, flush=True)
        yield row


def main() -> None:
    """Measure, and write the table."""
    torch.set_num_threads(1)
    head = f"| patient | remedy | {' | '.join(f'rate {rate:g}' for rate in RATES)} |"
    lines = [head, "|---|---|" + "---|" * len(RATES)]
    told = __doc__.strip().partition("\n\n")[2].partition("\n\n")[2]
    for patient in PATIENTS:
        lines += rows(patient)
        text = f"# Remedies of recurrent networks\n\n{told}\n\n" + "\n".join(lines) + "\n"
        TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
