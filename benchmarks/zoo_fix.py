"""Treat the zoo, and judge the cures by a plain loop that knows nothing of graddoctor.

    python benchmarks/zoo_fix.py --out benchmarks/results/zoo_fix.json --every 7 [names or families]

A sick patient counts as repaired when the treated run closes at least 80 % of the gap to its twin (the same training
with the fault taken out by hand), in the progress of its loss and as the median over three seeds. A sound one is
harmed when the treated run is worse than the given one by more than 0.02 of progress.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from graddoctor.fix import Cure, fix
from graddoctor.prove.yardstick import Yardstick, measure
from graddoctor.recipe import Recipe
from graddoctor.recording import environment
from graddoctor.testing import Patient, zoo
from zoo import share

SEEDS = (0, 1, 2)
CLOSED, HARM = 0.8, 0.02


def train(recipe: Recipe, seed: int, epochs: int) -> tuple[torch.nn.Module, list[float]]:
    """Train in plain PyTorch: what a remedy changes must be in model, loss, batches, optimizer, scheduler and clip."""
    torch.manual_seed(seed)
    model = recipe.model()
    model.train()
    optimizer = recipe.optimizer(model)
    torch.manual_seed(seed + 777)
    source = recipe.batches() if callable(recipe.batches) else recipe.batches
    scheduler = scheduled(recipe, optimizer, epochs * len(list(source))) if recipe.scheduler else None
    losses: list[float] = []
    for epoch in range(epochs):
        if epoch and iter(source) is source:
            source = recipe.batches()
        for batch in source:
            optimizer.zero_grad(set_to_none=True)
            loss = recipe.loss(model, batch)
            loss.backward()
            if recipe.clip:
                recipe.clip([p for p in model.parameters() if p.grad is not None])
            optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(float(loss.detach()))
            if len(losses) > 20 and not any(map(math.isfinite, losses[-20:])):
                return model, losses
    return model, losses


def scheduled(recipe: Recipe, optimizer: torch.optim.Optimizer, total: int) -> Any:
    """Build a scheduler, one that asks for the number of steps too."""
    arguments = (optimizer, total)[: len(inspect.signature(recipe.scheduler).parameters)]
    return recipe.scheduler(*arguments)


def outcome(recipe: Recipe, yardstick: Yardstick, epochs: int) -> float:
    """Median progress over the seeds."""
    reached = []
    for seed in SEEDS:
        _, losses = train(recipe, seed, epochs)
        tail = losses[-max(8, len(losses) // 10) :]
        reached.append(yardstick.progress(sum(tail) / len(tail)))
    return median(reached)


def judged(patient: Patient) -> dict[str, Any]:
    """Treat one patient and judge the cure."""
    given = patient.recipe
    begin = time.perf_counter()
    before = outcome(given, measure(given), given.epochs)
    plain = (time.perf_counter() - begin) / len(SEEDS)
    begin = time.perf_counter()
    row: dict[str, Any] = {"name": patient.name, "sick": patient.sick, "before": before}
    try:
        cure = fix(given)
    except Exception as error:  # noqa: BLE001 - a fix may fail in any way, and the run goes on
        traceback.print_exc()
        return row | {"crash": repr(error), "repaired": False if patient.sick else None, "harmed": not patient.sick}
    seconds = time.perf_counter() - begin
    row |= told(cure) | {"seconds": round(seconds, 1), "times_plain": round(seconds / max(plain, 0.5), 1)}
    after = outcome(cure.recipe, _yardstick(cure), cure.recipe.epochs) if cure.remedies else before
    row["after"] = after
    if patient.twin is None:
        return row | {"repaired": None, "harmed": after < before - HARM}
    twin = outcome(patient.twin, measure(patient.twin), patient.twin.epochs)
    aimed = cure.remedies[0].causes[0] in patient.causes if cure.remedies else None
    return row | {
        "twin": twin,
        "repaired": after >= before + CLOSED * (twin - before),
        "harmed": None,
        "aimed": aimed,
    }


def _yardstick(cure: Cure) -> Yardstick:
    """Targets that are scaled in the treated loss have a yardstick of their own."""
    return measure(cure.recipe)


def told(cure: Cure) -> dict[str, Any]:
    """Return what the cure says of itself."""
    return {
        "verdict": cure.verdict,
        "remedies": [remedy.name for remedy in cure.remedies],
        "trials": len(cure.trials),
        "failed": [list(one) for one in cure.treatment.found.failed] if cure.treatment.found else [],
        "aborted": cure.treatment.aborted,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of a whole run."""
    sick = [row for row in rows if row["sick"]]
    sizes = [len(row["remedies"]) for row in sick if row.get("remedies")]
    return {
        "sick": len(sick),
        "sound": len(rows) - len(sick),
        "repaired": share(sick, "repaired"),
        "aimed": share(sick, "aimed"),
        "harm_rate": share([row for row in rows if not row["sick"]], "harmed"),
        "median_remedies": median(sizes) if sizes else math.nan,
        "median_seconds": median(row["seconds"] for row in rows if "seconds" in row),
        "median_times_plain": median(row["times_plain"] for row in rows if "times_plain" in row),
        "crashes": sum("crash" in row for row in rows),
    }


def line(row: dict[str, Any]) -> str:
    """Return one row as it is printed, with what went wrong marked."""
    wrong = row.get("harmed") or row.get("repaired") is False or "crash" in row
    reached = " -> ".join(f"{row[k]:.2f}" for k in ("before", "after", "twin") if k in row)
    cost = f"{row.get('seconds', 0):6.1f}s {row.get('times_plain', 0):6.1f}x"
    mark = "!" if wrong else "~" if row.get("aimed") is False else " "
    return f"{mark} {row['name']:36s} {cost} {row.get('verdict', 'crash'):10s} {reached:24s} {row.get('remedies')}"


def chosen(wanted: Iterable[str]) -> list[Patient]:
    """Return the patients of these names or families; all without."""
    names = set(wanted)
    return [one for one in zoo() if not names or {one.name, one.family} & names]


def main() -> None:
    """Treat the zoo and print what was repaired and what was not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("chosen", nargs="*", help="names or families; everything without")
    parser.add_argument("--every", type=int, default=1, help="only every so many patients")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    for patient in chosen(options.chosen)[:: options.every]:
        rows.append(judged(patient))
        print(line(rows[-1]), flush=True)
    figures = summary(rows)
    print(json.dumps(figures, indent=1))
    if options.out is not None:
        told_ = {"environment": environment(), "summary": figures, "patients": rows}
        options.out.write_text(json.dumps(told_, indent=1) + "\n")


if __name__ == "__main__":
    main()
