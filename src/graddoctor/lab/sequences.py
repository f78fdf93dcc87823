"""Tasks of long lags, generated anew for every batch, and recurrent networks that answer at the end of a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

import graddoctor as gd
from graddoctor.observe.readings import TemporalReading

SYMBOLS = 4
COPIED, COPIES = 8, 3
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """Sequences of shape (batch, steps, inputs) and what is to be said at their end.

    ``guess`` is the loss of the best constant answer, ``answers`` at how many steps there is one.
    """

    draw: Callable[[int, int], Batch]
    inputs: int
    outputs: int
    guess: float
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    answers: int = 1


def _recall(size: int, steps: int) -> Batch:
    """One of four symbols at the first step, noise ever after: which of them was it."""
    symbols = torch.randint(SYMBOLS, (size,))
    inputs = torch.randn(size, steps, SYMBOLS)
    inputs[:, 0] = torch.eye(SYMBOLS)[symbols] * 2
    return inputs, symbols


def _adding(size: int, steps: int) -> Batch:
    """Random numbers, of which two are marked, one in each half: their sum (Hochreiter, Schmidhuber 1997)."""
    numbers, marks = torch.rand(size, steps), torch.zeros(size, steps)
    half = steps // 2
    rows = torch.arange(size)
    first, second = torch.randint(half, (size,)), torch.randint(half, steps, (size,))
    marks[rows, first] = marks[rows, second] = 1.0
    target = numbers[rows, first] + numbers[rows, second]
    return torch.stack([numbers, marks], dim=2), target[:, None]


def _temporal_order(size: int, steps: int) -> Batch:
    """Two of two symbols, near the start and before the middle, among four that say nothing: which of them, and when.

    Source: Hochreiter, Schmidhuber 1997; the places are those of Pascanu, Mikolov, Bengio 2013.
    """
    symbols = torch.randint(SYMBOLS, (size, steps)) + 2
    told = torch.randint(2, (size, 2))
    for place, tenth in enumerate((1, 4)):
        near = torch.randint(tenth * steps // 10, (tenth + 1) * steps // 10 + 1, (size,))
        symbols[torch.arange(size), near] = told[:, place]
    return one_hot(symbols, SYMBOLS + 2).float(), 2 * told[:, 0] + told[:, 1]


def _copying(size: int, lag: int) -> Batch:
    """Three of eight symbols, a lag of blanks, and three signs at which to say them again.

    Source: Hochreiter, Schmidhuber 1997; in this form Arjovsky, Shah, Bengio 2016.
    """
    told = torch.randint(COPIED, (size, COPIES))
    blanks, signs = torch.full((size, lag), COPIED), torch.full((size, COPIES), COPIED + 1)
    return one_hot(torch.cat([told, blanks, signs], dim=1), COPIED + 2).float(), told


TASKS = {
    "recall": Task(_recall, SYMBOLS, SYMBOLS, math.log(SYMBOLS)),
    "adding": Task(_adding, 2, 1, 1 / 6, mse_loss),
    "temporal order": Task(_temporal_order, SYMBOLS + 2, 4, math.log(4)),
    "copying": Task(_copying, COPIED + 2, COPIED, math.log(COPIED), answers=COPIES),
}


class Fresh:
    """So many batches of a task, every one of them new."""

    def __init__(self, task: Task, lag: int, batches: int, size: int) -> None:
        self.task, self.lag, self.batches, self.size = task, lag, batches, size

    def __iter__(self) -> Iterator[Batch]:
        return (self.task.draw(self.size, self.lag) for _ in range(self.batches))

    def __len__(self) -> int:
        return self.batches


class AtTheEnd(nn.Module):
    """A recurrent layer, and an answer from its last state; or one from each of its last states."""

    def __init__(self, cell: nn.RNNBase, outputs: int, answers: int = 1) -> None:
        super().__init__()
        self.cell, self.output, self.answers = cell, nn.Linear(cell.hidden_size, outputs), answers

    def forward(self, x: Tensor) -> Tensor:
        """Answer, from sequences of shape (batch, steps, inputs): (batch, outputs), or (batch, outputs, answers)."""
        states = self.cell(x)[0]
        last = states[:, -1] if self.answers == 1 else states[:, -self.answers :]
        answer: Tensor = self.output(last)
        return answer if self.answers == 1 else answer.transpose(1, 2)


def recipe(
    name: str, cell: Callable[[int], nn.RNNBase], lag: int, *, seed: int, rate: float, steps: int = 300, **parts: Any
) -> gd.Recipe:
    """Make a recipe that learns a task over a lag: Adam, clipped at a norm of 1; the metric is what it has learnt.

    The metric is 1 where the loss on fresh sequences is nothing, and 0 where it is that of the best constant answer.
    """
    task = TASKS[name]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return task.loss(model(batch[0]), batch[1])

    def learnt(model: nn.Module) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(10_000 + seed)
            value = float(loss(model, task.draw(500, lag)))
        return max(1 - value / task.guess, 0.0)

    given: dict[str, Any] = {
        "optimizer": lambda model: torch.optim.Adam(model.parameters(), lr=rate),
        "clip": lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.0),
        "evaluate": learnt,
    }
    return gd.Recipe(
        model=lambda: AtTheEnd(cell(task.inputs), task.outputs, task.answers),
        loss=loss,
        batches=lambda: Fresh(task, lag, steps, 64),
        epochs=1,
        seed=seed,
        **{**given, **parts},
    )


def batch(task: gd.Recipe) -> Batch:
    """Draw a batch of a recipe of this file, for a look."""
    drawn: Batch = next(iter(task.batches()))  # type: ignore[operator]
    return drawn


def through_time(task: gd.Recipe, model: nn.Module, drawn: Batch) -> TemporalReading:
    """Look at the gradient of a network's one recurrent layer against the lag."""
    (profile,) = gd.probe(model, task.loss, [drawn], through_time=True).temporal
    return profile


def open_gates(cell: nn.LSTM, steps: int | None = None, bias: float = 0.0) -> nn.LSTM:
    """Set the forget gate's bias; or, for a lag of so many steps, both gates' by chrono initialization.

    Source: Gers et al. 2000; Tallec and Ollivier 2018.
    """
    hidden = cell.hidden_size
    inner, outer = cell.get_parameter("bias_hh_l0"), cell.get_parameter("bias_ih_l0")
    with torch.no_grad():
        inner[: 2 * hidden], outer[: 2 * hidden] = 0.0, 0.0
        if steps is None:
            outer[hidden : 2 * hidden] = bias
        else:
            spread = torch.log(torch.empty(hidden).uniform_(1, max(steps - 1, 2)))
            outer[hidden : 2 * hidden], outer[:hidden] = spread, -spread
    return cell
