"""What `graddoctor.watch` adds to a training step, beside the naive loop that everybody writes.

    python benchmarks/watch_overhead.py [--rounds 60] [--quick]

For each model five ways to train are interleaved in one process, a few steps of each in turn, so that other load on the
machine meets all of them alike: plain; plain again; ``watch``; ``watch(every=10)``; and ``p.grad.norm().item()`` for
every parameter. Each way has its own copy of the model. What is measured is the processor time of the process, on one
thread: waiting for other processes does not count, their pressure on the caches does. The share that a way adds is the
median over the rounds of its time over that of plain in the same round; the second plain copy shows how far two equal
things differ here. The same of the minima is given beside.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graddoctor.recording import environment
from graddoctor.watch import watch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """A model, a batch for it, and how many steps make one turn."""

    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    turn: int


def mlp() -> nn.Module:
    """12 layers of 512."""
    return nn.Sequential(*[layer for _ in range(12) for layer in (nn.Linear(512, 512), nn.ReLU())], nn.Linear(512, 10))


class Block(nn.Module):
    """A residual block of ResNet-20 (He et al. 2015, section 4.2), with option A for the shortcut."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.stride = outer // inner
        self.conv1 = nn.Conv2d(inner, outer, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        h = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, h.shape[1] - x.shape[1]))
        result: Tensor = self.relu2(h + x)
        return result


def resnet20() -> nn.Module:
    """ResNet-20 for 32 x 32 images."""
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(a, b) for a, b in pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Attention(nn.Module):
    """Causal self-attention and a feed-forward part, each behind a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on ``(batch, time, width)``."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.ln1(x)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        result: Tensor = x + self.down(self.act(self.up(self.ln2(x))))
        return result


class Gpt(nn.Module):
    """A GPT of width 256 with 6 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(512, 256), nn.Embedding(128, 256)
        self.blocks = nn.Sequential(*[Attention(256, 4) for _ in range(6)])
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 512, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, ``(batch · time, vocabulary)``."""
        hidden = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        result: Tensor = self.head(self.norm(self.blocks(hidden))).flatten(0, 1)
        return result


CASES = (
    Case("MLP 12x512, batch 256", mlp, lambda: (torch.randn(256, 512), torch.randint(10, (256,))), 8),
    Case("GPT d256x6, batch 8x128", Gpt, lambda: (torch.randint(512, (8, 128)), torch.randint(512, (1024,))), 2),
    Case("ResNet-20, batch 128", resnet20, lambda: (torch.randn(128, 3, 32, 32), torch.randint(10, (128,))), 2),
)


class Way:
    """One way to train: its own model and optimizer, and how long each turn took."""

    def __init__(
        self, model: nn.Module, make: Callable[[nn.Module, Any], AbstractContextManager[Any]], *, naive: bool
    ) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.observed = make(self.model, self.optimizer)
        self.naive = naive
        self.seconds: list[float] = []

    def turn(self, batch: tuple[Tensor, Tensor], steps: int) -> None:
        """Train for some steps and note how long one took."""
        start = time.process_time()
        for _ in range(steps):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(batch[0]), batch[1]).backward()
            if self.naive:
                for parameter in self.model.parameters():
                    assert parameter.grad is not None
                    parameter.grad.norm().item()
            self.optimizer.step()
        self.seconds.append((time.process_time() - start) / steps)


def ways(model: nn.Module) -> dict[str, Way]:
    """All ways to train one model."""

    def nothing(*_: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    return {
        "plain": Way(model, nothing, naive=False),
        "plain again": Way(model, nothing, naive=False),
        "watch": Way(model, watch, naive=False),
        "watch(every=10)": Way(model, lambda m, o: watch(m, o, every=10), naive=False),
        "grad.norm().item() loop": Way(model, nothing, naive=True),
    }


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Interleave all ways, in an order that turns from round to round."""
    torch.manual_seed(0)
    everyone, batch = ways(case.model()), case.batch()
    order = list(everyone)
    for index in range(rounds + 3):
        for name in order[index % len(order) :] + order[: index % len(order)]:
            everyone[name].turn(batch, case.turn)
    plain = everyone["plain"].seconds[3:]
    rows = {}
    for name, way in everyone.items():
        seconds = way.seconds[3:]  # the first rounds warm up
        shares = [mine / base - 1 for mine, base in zip(seconds, plain, strict=True)]
        with way.observed as observed:
            fault = getattr(observed, "fault", None)
        assert fault is None, fault
        rows[name] = {
            "median_ms": 1e3 * statistics.median(seconds),
            "min_ms": 1e3 * min(seconds),
            "added_median": statistics.median(shares),
            "added_of_minima": min(seconds) / min(plain) - 1,
        }
    return rows


def report(results: dict[str, Any]) -> Iterator[str]:
    """Write the results as Markdown."""
    machine = results["environment"]
    yield "# What watching adds to a step\n"
    yield (
        f"{machine['time']}, {results['processor']}, {machine['cpus']} CPUs (load {results['load']:.1f} at the start, "
        f"{results['load_after']:.1f} at the end: other work ran beside it), one thread, torch {machine['torch']}, "
        f"Python {machine['python']}; {results['rounds']} interleaved rounds.\n"
    )
    yield "Processor time. Added: median over the rounds of this way ÷ plain - 1; in brackets the same of minima.\n"
    for case, rows in results["cases"].items():
        yield f"## {case}\n"
        yield "| way | median ms | min ms | added |\n|---|---:|---:|---:|"
        for name, row in rows.items():
            added = f"{100 * row['added_median']:+.1f} % ({100 * row['added_of_minima']:+.1f} %)"
            yield f"| {name} | {row['median_ms']:.2f} | {row['min_ms']:.2f} | {'' if name == 'plain' else added} |"
        yield ""


def processor() -> str:
    """Name of the processor, as Linux tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Measure, print, and write the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="a few rounds, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 5 if options.quick else options.rounds
    load = os.getloadavg()[0]
    cases = {case.name: measure(case, rounds) for case in CASES}
    results = {"environment": environment(), "processor": processor(), "rounds": rounds, "load": load}
    results |= {"load_after": os.getloadavg()[0], "threads": torch.get_num_threads(), "cases": cases}
    text = "\n".join(report(results))
    print(text)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "watch_overhead.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "watch_overhead.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
