"""Run a checker over the zoo and compare what it says with the truth.

    OMP_NUM_THREADS=1 python benchmarks/zoo.py [--twins] [--workers N] [--checker module:function] [--out FILE]
        [name or family]...

A checker takes a recipe and returns something with ``verdict`` and ``findings``, as ``graddoctor.check`` does. With
``--twins`` the sound twins are checked too: they count among the sound. One disease may be told by its condition or by
a consequence; every condition named counts as an alarm and must be true.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from graddoctor.recipe import Recipe
from graddoctor.recording import environment
from graddoctor.terms import Severity
from graddoctor.testing import Patient, patient, zoo


def alarms(checkup: Any) -> list[Any]:
    """Return the findings above a note."""
    return [finding for finding in checkup.findings if finding.severity > Severity.NOTE]


def _near(named: str, fault: str) -> bool:
    return named == fault or named.startswith(f"{fault}.") or fault.startswith(f"{named}.")


def judge(patient: Patient, checkup: Any, *, as_sound: bool = False) -> dict[str, Any]:
    """Compare one checkup with one patient's truth; ``None`` where a question does not apply."""
    found = alarms(checkup)
    named = {c for finding in found for c in (finding.condition, *finding.consequences)}
    row: dict[str, Any] = {
        "sick": patient.twin is not None and not as_sound,
        "verdict": checkup.verdict,
        "named": sorted(c.value for c in named),
        "alarm": bool(found),
        "causes": [blame.kind.value for blame in found[0].causes] if found else [],
        "modules": list(found[0].modules[:3]) if found else [],
    }
    if not row["sick"]:
        return row
    first = found[0] if found else None
    told = {first.condition, *first.consequences} if first else set()
    blamed = first.causes[0].kind if first and first.causes else None
    places = [m for m in row["modules"] if m]
    return row | {
        "true_named": sum(c in patient.conditions for c in named),
        "first_condition": bool(told & patient.conditions),
        "first_cause": blamed in patient.causes,
        "place": any(_near(p, m) for p in places for m in patient.modules) if patient.modules else None,
    }


def share(rows: Iterable[dict[str, Any]], key: str) -> float:
    """Return the share of rows that have it, among those to which it applies."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else float("nan")


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of a whole run."""
    sick, sound = [r for r in rows if r["sick"]], [r for r in rows if not r["sick"]]
    named = sum(len(r["named"]) for r in rows)
    return {
        "sick": len(sick),
        "sound": len(sound),
        "found": share(sick, "alarm"),
        "first_condition": share(sick, "first_condition"),
        "first_cause": share(sick, "first_cause"),
        "localisation": share(sick, "place"),
        "named_precision": sum(r["true_named"] for r in sick) / named if named else float("nan"),
        "false_alarm_rate": share(sound, "alarm"),
        "crashes": sum("crash" in r for r in rows),
        "median_seconds": median(r["seconds"] for r in rows) if rows else float("nan"),
    }


def examine(checker: Callable[[Recipe], Any], patient: Patient, recipe: Recipe) -> dict[str, Any]:
    """Check one recipe; a crash is an alarm that names nothing."""
    begin = time.perf_counter()
    as_sound = recipe is patient.twin
    try:
        row = judge(patient, checker(recipe), as_sound=as_sound)
    except Exception as error:  # noqa: BLE001 - a checker may fail in any way, and the run goes on
        traceback.print_exc()
        row = {"sick": patient.twin is not None and not as_sound, "verdict": "crash", "named": [], "alarm": True}
        row |= {"causes": [], "modules": [], "crash": repr(error), "true_named": 0}
        row |= {"first_condition": False, "first_cause": False} if row["sick"] else {}
    return {"name": recipe.name} | row | {"seconds": round(time.perf_counter() - begin, 2)}


def examined(name: str, checker: str, *, twin: bool) -> list[dict[str, Any]]:
    """Check one patient, and its sound twin, in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module, _, function = checker.partition(":")
    check_one = getattr(importlib.import_module(module), function)
    one = patient(name)
    recipes = (one.recipe, one.twin if twin else None)
    return [examine(check_one, one, recipe) for recipe in recipes if recipe is not None]


def line(patient: Patient, row: dict[str, Any]) -> str:
    """Return one row as it is printed, with what went wrong marked."""
    right = (row["first_condition"] and row["first_cause"]) if row["sick"] else not row["alarm"]
    told = f"{', '.join(row['named']) or '–'} <- {', '.join(row['causes']) or '–'}"
    truth = ", ".join(sorted(c.value for c in patient.causes)) if row["sick"] else "sound"
    return f"{'  ' if right else '! '}{row['name']:36s} {row['seconds']:6.1f}s {row['verdict']:12s} {told}  [{truth}]"


def main() -> None:
    """Check the zoo and print what is right and what is not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("chosen", nargs="*", help="names or families; everything without")
    parser.add_argument("--checker", default="graddoctor.check:check")
    parser.add_argument("--twins", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = [one for one in zoo() if not options.chosen or {one.name, one.family} & set(options.chosen)]
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        checked = partial(examined, checker=options.checker, twin=options.twins)
        for one, found in zip(chosen, pool.map(checked, [one.name for one in chosen]), strict=True):
            rows += found
            print(*(line(one, row) for row in found), sep="\n", flush=True)
    figures = summary(rows)
    print(json.dumps(figures, indent=1))
    if options.out is not None:
        told = {"environment": environment(), "summary": figures, "patients": rows}
        options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
