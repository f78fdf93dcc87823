"""Cures as `fix` would report them, without a training: cured, not cured, sound, interrupted, and a crowded one."""

import math
from dataclasses import replace

import numpy as np
import pytest

from graddoctor.show.cure import (
    Budgets,
    CureReport,
    Curves,
    Effort,
    Entry,
    Evidence,
    FailedTrial,
    PairedOutcome,
    Prescription,
    Race,
    Rung,
)
from graddoctor.show.report import LossCurve, Part, Row, Waterfall
from graddoctor.terms import Cause

CURES = ["cured", "not_cured", "sound", "interrupted", "crowded"]

SOURCE = '''"""What graddoctor changed, in plain PyTorch."""

import torch
from torch import nn


def swap_activation(model, old, new):
    """Put another activation in place of every module of one kind; weights and names stay."""
    for name, child in model.named_children():
        if isinstance(child, old):
            setattr(model, name, new())  # the same name, so that state dicts fit
        else:
            swap_activation(child, old, new)
    return model


def treat_model(model):
    """Change the network that your own builder gives."""
    model = swap_activation(model, nn.Sigmoid, nn.LeakyReLU)
    for name in ("layers.0", "layers.2", "layers.4"):
        nn.init.kaiming_normal_(model.get_submodule(name).weight, a=0.01, nonlinearity="leaky_relu")
    return model


def make_optimizer(model):
    """Build the optimizer for the treated network."""
    return torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.0)
'''

DIFF = """--- train.py
+++ train.py
@@ -12,7 +12,7 @@
 def build():
     layers = []
     for _ in range(14):
-        layers += [nn.Linear(64, 64), nn.Sigmoid()]
+        layers += [nn.Linear(64, 64), nn.LeakyReLU()]
     return nn.Sequential(*layers, nn.Linear(64, 10))
"""


def relu_rows(depth, rng):
    return tuple(
        Row(
            name=f"layers.{2 * layer}",
            kind="linear + leaky_relu",
            decades=0.02 + rng.uniform(-0.08, 0.08),
            modules=(f"layers.{2 * layer}", f"layers.{2 * layer + 1}"),
            signal_decades=-0.02,
            parts=(Part("Linear", "linear", 0.17), Part("LeakyReLU", "leaky_relu", -0.15)),
        )
        for layer in range(depth)
    )


def curve(start, end, points, rng, noise=0.03):
    values = [end + (start - end) * math.exp(-5 * i / points) for i in range(points)]
    steps = [round(i * 1999 / (points - 1)) for i in range(points)]
    return LossCurve.from_values([value * (1 + rng.uniform(-noise, noise)) for value in values], steps, baseline=2.302)


def paired(rng):
    before = [0.01 + rng.uniform(-0.01, 0.01) for _ in range(5)]
    after = [0.86 + rng.uniform(-0.06, 0.06) for _ in range(5)]
    return tuple(PairedOutcome(101 + i, b, a, a - b) for i, (b, a) in enumerate(zip(before, after, strict=True)))


def rung(steps, scores, kept, title, lost=()):
    entries = tuple(
        Entry(name, score, name in kept, "ended non-finite" if name in lost else "") for name, score in scores.items()
    )
    return Rung(steps, entries, title)


LEAKY = "leaky ReLU in place of sigmoid, re-initialised"
RACE = Race(
    (
        rung(2000, {"as given": 0.01}, {"as given"}, "as given"),
        rung(
            500,
            {LEAKY: 0.41, "SELU": 0.3, "BatchNorm": 0.22, "skip connections": 0.18, "LSUV": 0.04, "tuned": math.nan},
            {LEAKY, "SELU", "BatchNorm"},
            "first choice",
            lost={"tuned"},
        ),
        rung(1000, {LEAKY: 0.66, "SELU": 0.47, "BatchNorm": 0.39}, {LEAKY, "SELU"}, "first choice"),
        rung(2000, {LEAKY: 0.84, "SELU": 0.61}, {LEAKY, "SELU"}, "first choice"),
        rung(2000, {f"{LEAKY}, learning rate × 3": 0.71}, set(), "finer rates"),
    ),
    LEAKY,
)


@pytest.fixture(scope="session")
def cured(sick):
    """A deep sigmoid network that a change of two things made learn."""
    rng = np.random.default_rng(10)
    rows = relu_rows(14, rng)
    pairs = paired(rng)
    proof = Evidence(
        measure="progress",
        verdict="better",
        mean=float(np.mean([pair.difference for pair in pairs])),
        low=0.79,
        high=0.91,
        error=1 / 32,
        planned=5,
        distinct=5,
        pairs=pairs,
        cost_per_step=1.04,
        parameters_before=54_410,
        parameters_after=54_410,
        sentence="All five seeds gained, and none of the gains was small.",
        name=LEAKY,
    )
    return CureReport(
        title="deep_sigmoid",
        verdict="cured",
        headline="Leaky ReLU in place of sigmoid, re-initialised: better on all 5 fresh seeds.",
        checkup=sick,
        remedies=(
            Prescription(
                "leaky ReLU in place of sigmoid",
                (Cause.ACTIVATION,),
                "Maas et al. 2013; Xu et al. 2015",
                "",
                tuple(f"layers.{2 * i + 1}" for i in range(14)),
            ),
            Prescription(
                "He initialization with the gain of each activation",
                (Cause.INITIALIZATION, Cause.ACTIVATION),
                "He et al. 2015, Delving Deep into Rectifiers",
                "pretrained weights would be lost",
                tuple(f"layers.{2 * i}" for i in range(14)),
            ),
        ),
        proof=proof,
        curves=Curves(curve(2.31, 2.30, 64, rng, 0.004), curve(2.3, 0.12, 64, rng, 0.1), seed=101),
        budgets=Budgets(
            sick.budget,
            Waterfall(rows, math.fsum(row.decades for row in rows), -0.3, by_kind={"linear": 2.0, "leaky_relu": -1.8}),
        ),
        race=RACE,
        failed=(FailedTrial("orthogonal", "RuntimeError: only tensors with 2 or more dimensions are supported"),),
        effort=Effort(48_200, 141.7, 24.1, 2, 1),
        source=SOURCE,
        diff=DIFF,
        environment=sick.environment,
    )


@pytest.fixture(scope="session")
def not_cured(cured, inconclusive):
    """What won the race did not hold on fresh seeds, one of which blew up."""
    pairs = (
        PairedOutcome(101, 0.614, 0.631, 0.017),
        PairedOutcome(102, 0.622, 0.588, -0.034),
        PairedOutcome(103, 0.6, math.nan, -0.6, "complete", "non-finite"),
        PairedOutcome(104, 0.59, 0.64, 0.05),
    )
    proof = replace(
        cured.proof,
        measure="metric",
        verdict="no difference shown",
        mean=-0.142,
        low=-0.63,
        high=0.35,
        error=0.69,
        distinct=4,
        pairs=pairs,
        cost_per_step=math.nan,
        parameters_after=55_000,
        sentence="Two seeds gained, two lost.",
        name="BatchNorm, warm-up",
    )
    return CureReport(
        title="shuffled_labels",
        verdict="not cured",
        headline="The best that was found did not hold on fresh seeds: it stays as it is.",
        checkup=inconclusive,
        proof=proof,
        curves=Curves(LossCurve.from_values([2.3, 2.1, 1.9]), LossCurve.from_values([2.3, 9.0, math.nan])),
        budgets=Budgets(inconclusive.budget, None),
        race=Race(RACE.rungs[:2], ""),
        failed=cured.failed,
        effort=Effort(3_000, 61.0, 9.0),
        aborted="the time was used up",
        environment=inconclusive.environment,
    )


@pytest.fixture(scope="session")
def sound(healthy):
    """Nothing was wrong."""
    return CureReport(
        title="residual_cnn",
        verdict="sound",
        headline="It learns as it is: nothing was changed.",
        checkup=healthy,
        budgets=Budgets(healthy.budget),
        effort=Effort(300, 5.2, 1.0),
        environment=healthy.environment,
    )


@pytest.fixture(scope="session")
def interrupted(cut):
    """Ctrl-C before anything was proven, names that try to break a page, no budget."""
    nasty = '<script>alert("x")</script>|`*'
    return CureReport(
        title=f"cut {nasty}",
        verdict="interrupted",
        headline=f"Nothing was proven yet: {nasty}",
        checkup=cut,
        race=Race((rung(64, {nasty: 0.2, "as given": -math.inf}, {nasty}, nasty),)),
        failed=(FailedTrial(nasty, nasty),),
        effort=Effort(64, 0.4, math.nan),
        aborted="interrupted",
        source=f"```\n{nasty}\n```\n",
    )


@pytest.fixture(scope="session")
def crowded(cured, huge):
    """Forty candidates with names that no line holds, on six rungs; five hundred rows before, fewer after."""
    rng = np.random.default_rng(11)
    names = [
        f"model.decoder.layers. remedy number {i} in place of everything that stood there before" for i in range(40)
    ]
    rungs, left = [], names
    while len(left) > 1:
        scores = {name: float(rng.uniform(0, 1)) for name in left}
        kept = sorted(left, key=lambda name: -scores[name])[: len(left) // 2]
        rungs.append(rung(64 * 2 ** len(rungs), scores, kept, f"stage {len(rungs)}"))
        left = kept
    after = tuple(replace(row, decades=row.decades / 10) for row in huge.budget.rows[::2])
    pairs = tuple(PairedOutcome(1000 + i, math.nan, math.inf, math.nan, "failed", "hung") for i in range(3))
    return CureReport(
        title="a" * 300,
        verdict="cured",
        headline="Many candidates. " * 10,
        checkup=huge,
        remedies=(Prescription(names[0], (Cause.DEPTH,), "x" * 200, "y" * 200, tuple(row.name for row in after)),),
        proof=replace(cured.proof, pairs=pairs, mean=math.nan, low=math.nan, high=math.nan, error=math.nan),
        curves=Curves(LossCurve.from_values([math.nan] * 3), LossCurve.from_values([0.0, -1.0])),
        budgets=Budgets(huge.budget, Waterfall(after, math.fsum(row.decades for row in after))),
        race=Race(tuple(rungs), left[0]),
        effort=Effort(10**9, 10**6, 10**4, 64, 4),
        source=SOURCE * 30,
        environment=huge.environment,
    )
