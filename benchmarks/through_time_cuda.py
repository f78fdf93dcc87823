"""The look through time on a GPU: whether it reads what it reads on a CPU, and what it costs beside cuDNN.

    python benchmarks/through_time_cuda.py [--rounds 5] [--steps 1000] [--out FOLDER]

For every way to build a recurrent layer, the same network is looked at on the GPU in float32, with and without TF32,
and on the CPU in float64; what is told is the largest relative difference of the profiles over the lags, and how far
the loss in elementary operations lies from cuDNN's. Then the networks of ``through_time.py`` are timed: a plain
step with cuDNN's kernel and the look, in turn, by the clock on the wall, with the GPU waited for. Last, the weights of
a network that is watched are compared, bit by bit, with those of one that is not.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import graddoctor as gd
from graddoctor.observe.readings import TemporalReading
from graddoctor.observe.temporal import through_time
from graddoctor.recording import environment
from through_time import CASES, RESULTS, loss, plain

WAYS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "GRU": (nn.GRU, {}),
    "tanh, 3 layers": (nn.RNN, {"num_layers": 3}),
    "LSTM, 2 layers, bidirectional": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "GRU, 2 layers, bidirectional": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "LSTM, projected": (nn.LSTM, {"proj_size": 8}),
    "LSTM, 2 layers, dropout 0.3": (nn.LSTM, {"num_layers": 2, "dropout": 0.3}),
}


def answer(model: nn.Module, x: Tensor) -> Tensor:
    """A loss with another weight for every number."""
    flat = model(x)[0].flatten()
    value: Tensor = (flat * torch.linspace(-1, 2, len(flat), dtype=flat.dtype, device=flat.device)).sum()
    return value


def packed(model: nn.Module, x: Tensor) -> Tensor:
    """The same on sequences of unlike lengths."""
    lengths = torch.linspace(5, len(x), x.shape[1]).long()
    told, _ = model(nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
    value: Tensor = told.data.square().sum()
    return value


def apart(here: TemporalReading, there: TemporalReading) -> float:
    """The largest relative difference of two profiles."""
    one, other = (torch.tensor(look.lag_gradient, dtype=torch.float64) for look in (here, there))
    return float(((one - other).abs() / other.abs().clamp_min(1e-300)).max())


def agreement(name: str, asked: Callable[[nn.Module, Tensor], Tensor]) -> dict[str, Any]:
    """Look on both devices at the same network; with dropout they draw unlike masks and are not compared."""
    kind, options = WAYS[name]
    torch.manual_seed(0)
    model, x = kind(24, 48, **options), torch.randn(60, 16, 24)
    twin, row = copy.deepcopy(model).double(), {"kernel": name, "packed": asked is packed}
    drawn = "dropout" in options
    slow = () if drawn else through_time(twin, asked, x.double())
    model, x = model.cuda(), x.cuda()
    for allowed in (False, True):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
        looks = through_time(model, asked, x)
        row["TF32" if allowed else "float32"] = {
            "apart": None if drawn else max(apart(*pair) for pair in zip(looks, slow, strict=True)),
            "verified": None if drawn else max(look.verified for look in looks),
            "notes": sorted({note for look in looks for note in look.notes}),
        }
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False  # as torch has them
    return row


def seconds(run: Callable[[], Any]) -> float:
    """Wall-clock time of one run, the GPU waited for."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def cost(name: str, steps: int, rounds: int) -> dict[str, Any]:
    """Interleave plain steps and looks."""
    torch.manual_seed(0)
    model, x = CASES[name]().cuda(), torch.randn(steps, 32, 64, device="cuda")
    plain(model, x)
    through_time(model, loss, x)
    pairs = [(seconds(lambda: plain(model, x)), seconds(lambda: through_time(model, loss, x))) for _ in range(rounds)]
    return {
        "network": name,
        "steps": steps,
        "plain_s": statistics.median(one for one, _ in pairs),
        "look_s": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(other / one for one, other in pairs),
    }


def trained(kind: type[nn.RNNBase], *, watched: bool) -> Tensor:
    """The weights after thirty steps."""
    torch.manual_seed(0)
    model = kind(16, 32, num_layers=2).cuda()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    watch = gd.watch(model, optimizer) if watched else None
    for _ in range(30):
        x = torch.randn(40, 8, 16, device="cuda")
        if watched:
            through_time(model, lambda net, x: net(x)[0].square().mean(), x)
        optimizer.zero_grad()
        model(x)[0].square().mean().backward()
        optimizer.step()
    if watch is not None:
        watch.close()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def undisturbed(kind: type[nn.RNNBase]) -> bool:
    """Whether watching and looking leave every bit as it would be."""
    return torch.equal(trained(kind, watched=False), trained(kind, watched=True))


def report(results: dict[str, Any]) -> Iterator[str]:
    """Write the results as Markdown."""
    machine = results["environment"]
    yield "# The look through time on a GPU\n"
    yield f"{machine['time']}, {results['gpu']}, torch {machine['torch']}, cuDNN {results['cudnn']}.\n"
    yield (
        "Profiles on the GPU against the CPU in float64 (60 steps, batch 16, hidden 48): largest relative difference "
        "over the lags; loss in elementary operations against cuDNN's. With dropout the devices draw unlike masks.\n"
    )
    yield "| kernel | packed | float32: profile | loss | TF32: profile | loss | notes |"
    yield "|---|---|---:|---:|---:|---:|---|"
    for row in results["agreement"]:
        told = [
            "" if row[kind][what] is None else f"{row[kind][what]:.1e}"
            for kind in ("float32", "TF32")
            for what in ("apart", "verified")
        ]
        notes = "; ".join(sorted({*row["float32"]["notes"], *row["TF32"]["notes"]}))
        yield f"| {row['kernel']} | {'yes' if row['packed'] else ''} | {' | '.join(told)} | {notes} |"
    yield (
        f"\nA plain step with cuDNN's kernel and the look, batch 32, hidden 128; median of {results['rounds']} "
        "interleaved rounds, wall clock.\n"
    )
    yield "| network | time steps | plain step, ms | look, ms | look / plain |\n|---|---:|---:|---:|---:|"
    for row in results["cost"]:
        yield (
            f"| {row['network']} | {row['steps']} | {1e3 * row['plain_s']:.1f} | {1e3 * row['look_s']:.0f} "
            f"| {row['ratio']:.1f} |"
        )
    same = ", ".join(f"{name}: {'yes' if held else 'NO'}" for name, held in results["undisturbed"].items())
    yield f"\nWeights after 30 steps, watched and looked at at every step, the same to the bit as without: {same}."


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = {
        "environment": environment(),
        "gpu": torch.cuda.get_device_name(),
        "cudnn": torch.backends.cudnn.version(),
        "rounds": options.rounds,
        "agreement": [agreement(name, asked) for name in WAYS for asked in (answer, packed)],
        "cost": [cost(name, steps, options.rounds) for name in CASES for steps in (options.steps // 10, options.steps)],
        "undisturbed": {kind.__name__: undisturbed(kind) for kind in (nn.RNN, nn.LSTM, nn.GRU)},
    }
    text = "\n".join(report(results))
    print(text)
    options.out.mkdir(exist_ok=True, parents=True)
    (options.out / "through_time_cuda.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "through_time_cuda.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
