"""Prove nothing, hundreds of times: the same recipe on both sides, and how often a difference is claimed all the same.

    OMP_NUM_THREADS=1 python benchmarks/nulls.py [--nulls N] [--out PATH]

Every null trains one small recipe under fresh draws of its own, as many as the proof has seeds on either side: a
placebo that does nothing but redraw. The rule under test is that of ``graddoctor.prove.proof``: by the exact sign-flip
test "better" is claimed at an error of 1/32, "worse" at 0.05 - 1/32, so that a claim of either kind has an error of at
most 0.05. With 5 pairs "better" takes five gains, and "worse" cannot be claimed; with 8 both can. Each is measured by
the metric (an accuracy, which has ties) and by the progress of the loss, and so is how often the 95 % interval leaves
out 0. The figures are told for the first 200 nulls and for all of them. Merges nothing: it writes
``results/nulls.json`` anew.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from graddoctor.prove.laboratory import Laboratory
from graddoctor.prove.proof import BETTER, ERROR, WORSE, Proof, prove
from graddoctor.prove.task import Result, Setting, Task
from graddoctor.prove.yardstick import measure
from graddoctor.recipe import Recipe
from graddoctor.recording import environment

NULLS, FIRST = 800, 200
SEEDS = (5, 8)
RESULTS = Path(__file__).parent / "results" / "nulls.json"


def data(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in eight dimensions whose class is the side of a curved and noisy border."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 8, generator=draw)
    score = x[:, 0] * x[:, 1] + x[:, 2] + 0.5 * torch.randn(count, generator=draw)
    return x, (score > 0).long()


TRAIN, TEST = data(256, 1), data(512, 2)


def accuracy(model: nn.Module) -> float:
    """Share of held-out points that are put on the right side."""
    return float((model(TEST[0]).argmax(1) == TEST[1]).float().mean())


def placebo() -> Recipe:
    """A small training that learns, with all that is left to chance: weights, order and dropout."""
    data_set = torch.utils.data.TensorDataset(*TRAIN)
    return Recipe(
        model=lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2)),
        loss=lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        batches=lambda: torch.utils.data.DataLoader(data_set, batch_size=32, shuffle=True),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9),
        evaluate=accuracy,
        epochs=6,
        name="placebo",
    )


def nulls(results: list[Result], count: int, seeds: int) -> list[Proof]:
    """Prove nothing so many times, no run used by two of them."""
    width = 2 * max(SEEDS)
    blocks = [results[k * width : k * width + 2 * seeds] for k in range(count)]
    return [prove(block[:seeds], block[seeds:], range(seeds), seeds) for block in blocks]


def figures(proofs: list[Proof], seeds: int) -> dict[str, Any]:
    """Count claims; the shares come with their exact 95 % intervals."""
    verdicts = [proof.verdict for proof in proofs]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    outside = sum(not proof.low <= 0 <= proof.high for proof in proofs)
    return {
        "nulls": len(proofs),
        "seeds": seeds,
        "measure": proofs[0].measure,
        "better": better,
        "worse": worse,
        "claimed": share(better + worse, len(proofs)),
        "interval_without_0": share(outside, len(proofs)),
        "allowed_share": allowed(len(proofs)),
        "distinct": min(proof.distinct for proof in proofs),
    }


def allowed(count: int) -> float:
    """The largest share that chance gives one in forty times where the error is as stated."""
    return float(stats.binom.ppf(0.975, count, ERROR)) / count


def share(count: int, of: int) -> dict[str, float]:
    """A share and its Clopper-Pearson interval."""
    interval = stats.binomtest(count, of).proportion_ci(0.95)
    return {"share": count / of, "low": round(interval.low, 4), "high": round(interval.high, 4)}


def main() -> None:
    """Train, prove, write."""
    parser = argparse.ArgumentParser(description="How often a difference is claimed where there is none.")
    parser.add_argument("--nulls", type=int, default=NULLS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    recipe, began = placebo(), time.perf_counter()
    runs = 2 * max(SEEDS) * arguments.nulls
    laboratory = Laboratory(Setting(recipe, measure(recipe)))
    results = laboratory.run([Task(None, number) for number in range(1, runs + 1)])
    found = [result for result in results if result is not None]
    assert len({result.digest for result in found}) == runs, "every run must be a draw of its own"
    without = [replace(result, metric=None) for result in found]
    counts = sorted({min(FIRST, arguments.nulls), arguments.nulls})
    rows = [
        figures(nulls(side, count, seeds), seeds) for count in counts for seeds in SEEDS for side in (found, without)
    ]
    told = {
        "environment": environment(),
        "runs": runs,
        "seconds": round(time.perf_counter() - began, 1),
        "seconds_per_run": round(laboratory.seconds_spent / runs, 4),
        "error": {"better": BETTER, "worse": WORSE, "either": ERROR},
        "proofs": rows,
    }
    arguments.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['nulls']} nulls, {row['seeds']} seeds, {row['measure']}", end=": ")
        print(f"{row['better']} better, {row['worse']} worse, claimed {row['claimed']['share']:.3f}", end=", ")
        print(f"interval without 0 {row['interval_without_0']['share']:.3f}")
    assert all(row["claimed"]["share"] <= row["allowed_share"] for row in rows), "more is claimed than the stated error"


if __name__ == "__main__":
    main()
