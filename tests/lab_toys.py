"""Experiments that take no time, of which everything is known."""

import torch

from graddoctor.errors import GraddoctorError
from graddoctor.lab import Experiment, Picture, Question, cross


def measure(seed, depth, kind):
    """Lose a decade a layer, give or take what is drawn."""
    noise = float(torch.rand(()))
    return {"lost": depth + 0.1 * noise, "drawn": noise, "theory": float(depth), "curve": [1.0, 0.5 + noise, 0.1]}


def broken(seed, depth, kind):
    """Fail as users' code does."""
    if depth > 5:
        raise ValueError("no such depth")
    return {"lost": 0.0}


def extra(seed, depth, kind):
    """Fail as a missing extra does."""
    raise GraddoctorError("nothing is installed: run  pip install something")


def toy(name="toy", **changes):
    """An experiment; other parts of it by name."""
    parts = {
        "name": name,
        "title": f"A {name}",
        "claim": "A layer takes a decade.",
        "source": "Nobody 1999, table 1",
        "expected": "1 decade a layer",
        "scaled": "Nothing is trained.",
        "lesson": "Count your layers.",
        "measure": measure,
        "arms": cross(depth=(5, 10, 20), kind=("plain",)),
        "quick": cross(depth=(5, 10), kind=("plain",)),
        "questions": (
            Question("A layer takes half.", lambda t: t.slope("lost", over="depth"), above=0.5, unit="decades"),
            Question("It starts with five.", lambda t: t.of("lost", depth=5), below=6.0, control=True),
        ),
        "pictures": (
            Picture("lost", "decades lost", x="depth", by="kind", expected="theory"),
            Picture("curve", "what is left", x_title="layer", by="depth", log_y=True),
        ),
        "verdict": "reproduced",
        "seeds": 3,
        "quick_seeds": 2,
    }
    return Experiment(**parts | changes)
