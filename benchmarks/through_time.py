"""What the look through time costs, beside a plain training step of the same network on the same batch.

    python benchmarks/through_time.py [--rounds 5] [--steps 1000] [--quick]

Both are taken in turn in one process, on one thread, so that other load on the machine meets both alike. A plain step
is forward and backward with the fused kernel. The look is ``through_time`` as a whole: forward in elementary operations
and as it is, two ways back through time, spectra, gates. What is measured is the processor time of the process; the
ratio is the median over the rounds of look ÷ plain of the same round. The look must stay under six plain steps at 1000
time steps. The length is halved as well: twice the steps should cost twice the time, no more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graddoctor.observe.temporal import through_time
from graddoctor.recording import environment

RESULTS = Path(__file__).parent / "results"
LIMIT = 6.0


class Tagger(nn.Module):
    """A recurrent network with an answer at every step."""

    def __init__(self, kind: type[nn.RNNBase], inputs: int, width: int, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(inputs, width, **options)
        self.head = nn.Linear(width * (2 if options.get("bidirectional") else 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(time, batch, 10)``."""
        logits: Tensor = self.head(self.rnn(x)[0])
        return logits


class Loop(nn.Module):
    """The same by hand: a tanh cell in a Python loop."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.x2h, self.h2h, self.head = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(time, batch, 10)``."""
        h, shown = x.new_zeros(x.shape[1], self.h2h.out_features), []
        for row in x:
            h = torch.tanh(self.x2h(row) + self.h2h(h))
            shown.append(h)
        logits: Tensor = self.head(torch.stack(shown))
        return logits


class Cell(nn.Module):
    """An LSTM cell in a Python loop."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(inputs, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(time, batch, 10)``."""
        h, c, shown = x.new_zeros(x.shape[1], 128), x.new_zeros(x.shape[1], 128), []
        for row in x:
            h, c = self.cell(row, (h, c))
            shown.append(h)
        logits: Tensor = self.head(torch.stack(shown))
        return logits


CASES: dict[str, Callable[[], nn.Module]] = {
    "RNN tanh": lambda: Tagger(nn.RNN, 64, 128),
    "LSTM": lambda: Tagger(nn.LSTM, 64, 128),
    "GRU": lambda: Tagger(nn.GRU, 64, 128),
    "LSTM, 2 layers, bidirectional": lambda: Tagger(nn.LSTM, 64, 128, num_layers=2, bidirectional=True),
    "tanh loop by hand": lambda: Loop(64, 128),
    "LSTM cell in a loop": lambda: Cell(64, 128),
}


def loss(model: nn.Module, x: Tensor) -> Tensor:
    """A loss at every step."""
    value: Tensor = model(x).square().mean()
    return value


def plain(model: nn.Module, x: Tensor) -> None:
    """One training step without the update."""
    model.zero_grad()
    loss(model, x).backward()


def seconds(run: Callable[[], Any]) -> float:
    """Processor time of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(build: Callable[[], nn.Module], steps: int, batch: int, rounds: int) -> dict[str, Any]:
    """Interleave plain steps and looks."""
    torch.manual_seed(0)
    model, x = build(), torch.randn(steps, batch, 64)
    plain(model, x)  # warms up
    (first, *_) = through_time(model, loss, x)
    assert first.steps == steps
    assert first.verified < 1e-5
    pairs = [(seconds(lambda: plain(model, x)), seconds(lambda: through_time(model, loss, x))) for _ in range(rounds)]
    return {
        "steps": steps,
        "batch": batch,
        "plain_s": statistics.median(one for one, _ in pairs),
        "look_s": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(other / one for one, other in pairs),
    }


def report(results: dict[str, Any]) -> Iterator[str]:
    """Write the results as Markdown."""
    machine = results["environment"]
    yield "# What the look through time costs\n"
    yield (
        f"{machine['time']}, {machine['cpus']} CPUs (load {results['load']:.1f} when it began), "
        f"one thread, torch {machine['torch']}, Python {machine['python']}; median of {results['rounds']} interleaved "
        "rounds, processor time. Hidden 128, inputs 64, batch 32, a loss at every step.\n"
    )
    yield f"Limit: {results['limit']:.0f} plain steps at 1000 time steps.\n"
    yield "| network | time steps | plain step, s | look, s | look / plain |\n|---|---:|---:|---:|---:|"
    for name, rows in results["cases"].items():
        for row in rows:
            yield f"| {name} | {row['steps']} | {row['plain_s']:.2f} | {row['look_s']:.2f} | {row['ratio']:.2f} |"


def main() -> None:
    """Measure, print, and write the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a short sequence once, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds, steps = (1, 100) if options.quick else (options.rounds, options.steps)
    load = os.getloadavg()[0]
    cases = {
        name: [measure(build, length, 32, rounds) for length in (steps // 2, steps)] for name, build in CASES.items()
    }
    results = {"environment": environment(), "rounds": rounds, "load": load, "limit": LIMIT, "cases": cases}
    text = "\n".join(report(results))
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "through_time.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "through_time.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
