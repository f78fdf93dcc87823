"""Reports as checkups would make them, without a training: one sick, one healthy, one undecided, one cut off."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cures import crowded, cured, interrupted, not_cured, sound  # noqa: F401 - fixtures

from graddoctor.show.report import (
    ActivationState,
    Coverage,
    Event,
    HeatMap,
    LayerActivation,
    LossCurve,
    LossShare,
    Part,
    Report,
    Row,
    UpdateRatios,
    Waterfall,
)
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial

STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 199)
ENVIRONMENT = {"graddoctor": "0.1.0", "python": "3.12.3", "torch": "2.13.0", "device": "cpu", "threads": "1"}


def bell(centre, width, low, high, bins=32):
    edges = tuple(low + (high - low) * i / bins for i in range(bins + 1))
    heights = [math.exp(-((((a + b) / 2 - centre) / width) ** 2) / 2) for a, b in pairwise(edges)]
    return edges, tuple(height / sum(heights) for height in heights)


def state(step, centre, width, low, high, **shares):
    edges, heights = bell(centre, width, low, high)
    return ActivationState(step, edges=edges, shares=heights, **shares)


def sigmoid_rows(depth, rng):
    rows = []
    for layer in range(depth):
        weight, slope = -0.08 + rng.uniform(-0.03, 0.03), -0.77 + rng.uniform(-0.05, 0.05)
        parts = (Part("Linear", "linear", weight), Part("Sigmoid", "sigmoid", slope))
        rows.append(
            Row(
                name=f"layers.{2 * layer}",
                kind="linear + sigmoid",
                decades=weight + slope,
                modules=(f"layers.{2 * layer}", f"layers.{2 * layer + 1}"),
                signal_decades=-0.7 if layer < 8 else -0.02,
                predicted_decades=-0.849,
                parts=parts,
            )
        )
    return tuple(rows)


@pytest.fixture(scope="session")
def sick():
    """A 14-layer sigmoid net whose gradient vanishes."""
    rng = np.random.default_rng(0)
    depth = 14
    rows = sigmoid_rows(depth, rng)
    total = math.fsum(row.decades for row in rows)
    swap = Trial("sigmoids exchanged for ReLU", Cause.ACTIVATION, 60, 0.83, 0.82, 0.91, helped=True)
    trials = (
        Trial("a tenth of the learning rate", Cause.LEARNING_RATE, 60, 0.0, 0.0, 0.10),
        Trial("ten times the learning rate", Cause.LEARNING_RATE, 60, 0.01, 0.01, 0.11),
        Trial("standardised inputs", Cause.INPUT_SCALE, 60, 0.0, -0.002, 0.10),
        Trial("re-initialised with the right gain", Cause.INITIALIZATION, 60, 0.04, 0.03, 0.12),
        swap,
    )
    finding = Finding(
        condition=Condition.VANISHING,
        severity=Severity.CRITICAL,
        modules=tuple(f"layers.{2 * i + 1}" for i in range(depth)),
        causes=(
            Blame(
                Cause.ACTIVATION,
                tuple(f"layers.{2 * i + 1}" for i in range(depth)),
                0.91,
                ("relu", "gelu"),
                "A sigmoid passes on at most a quarter of the gradient; fourteen in a row leave nothing.",
            ),
            Blame(Cause.INITIALIZATION, ("layers.0", "layers.2"), 0.04, ("xavier",), "The weights shrink it a little."),
        ),
        consequences=(Condition.PLATEAU,),
        numbers={"decades_lost": -total, "loss_first": 2.31, "loss_last": 2.30, "baseline_loss": 2.302},
        summary="On its way back to the first layers the gradient shrinks to a trillionth, so they do not learn.",
        detail=f"{-total:.1f} decades lost over {depth} layers, 10.8 in the sigmoids; loss 2.30 after 200 steps.",
        trials=(swap,),
    )
    names = tuple(f"layers.{2 * i}" for i in range(depth))
    norms = [
        [10 ** (-1 + 0.85 * (i - depth) + rng.uniform(-0.2, 0.2) + 0.002 * step) for step in STEPS]
        for i in range(depth)
    ]
    ratios = [[10 ** (-2.2 + 0.85 * (i - depth) + rng.uniform(-0.2, 0.2)) for _ in STEPS] for i in range(depth)]
    losses = [2.302 + 0.01 * math.exp(-i / 20) + rng.uniform(-0.02, 0.02) for i in range(200)]
    return Report(
        title="deep_sigmoid",
        verdict="sick",
        headline="The gradient vanishes before it reaches the first layers; the sigmoids take it.",
        findings=(finding,),
        ruled_out=(
            "The learning rate: neither a tenth nor ten times of it helped.",
            "The scale of the inputs: standardised inputs gained nothing.",
        ),
        trials=trials,
        budget=Waterfall(rows, total, -5.7, by_kind={"sigmoid": 0.91 * total, "linear": 0.09 * total}),
        heat=HeatMap.from_norms(names, STEPS, norms),
        activations=tuple(
            LayerActivation(
                f"layers.{2 * i + 1}",
                "sigmoid",
                state(0, 0.5, 0.08 * 0.7**i + 0.01, 0, 1, saturated=0.01, slope=0.92, dead=0.0),
                state(199, 0.55, 0.06 * 0.7**i + 0.012, 0, 1, saturated=0.02, slope=0.9, dead=0.0),
            )
            for i in range(depth)
        ),
        updates=UpdateRatios.from_ratios(tuple(f"{name}.weight" for name in names), STEPS, ratios),
        losses=LossCurve.from_values(losses, baseline=2.302),
        events=(Event(40, "loss has not moved for 40 steps", Severity.WARNING),),
        coverage=Coverage(200, 2000, 8.4, 5),
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def numbered(sick):
    """The same net with what its modules are, and a loss of three terms."""
    terms = (("cross_entropy", 1.1, "layers.26"), ("mse_loss", -0.2, "side"), ("mse_loss (2)", 0.1, "layers.26"))
    return replace(
        sick,
        budget=replace(sick.budget, losses=tuple(LossShare(name, share, (module,)) for name, share, module in terms)),
        classes={"layers": "Sequential"}
        | {f"layers.{i}": "Sigmoid" if i % 2 else "Linear" for i in range(28)}
        | {"side": "Linear"},
    )


@pytest.fixture(scope="session")
def healthy():
    """A residual CNN that trains as it should."""
    rng = np.random.default_rng(1)
    rows = tuple(
        Row(
            name=f"blocks.{i}",
            kind="residual",
            decades=0.06 + rng.uniform(-0.02, 0.02),
            modules=(f"blocks.{i}",),
            signal_decades=0.05,
            parts=(
                Part("skip", "identity", share=0.93),
                Part(
                    "branch",
                    "branch",
                    share=0.07,
                    parts=(Part("conv1", "conv", -0.2), Part("relu", "relu", -0.16), Part("conv2", "conv", -0.3)),
                ),
            ),
        )
        for i in range(9)
    )
    names = tuple(row.name for row in rows)
    losses = [2.31 * math.exp(-i / 60) + 0.08 + rng.uniform(-0.03, 0.03) for i in range(300)]
    return Report(
        title="residual_cnn",
        verdict="healthy",
        headline="It learns, and the gradient reaches every layer.",
        notes=(Finding(Condition.UNSCALED_INPUT, Severity.NOTE, summary="Inputs reach up to 255."),),
        budget=Waterfall(rows, math.fsum(row.decades for row in rows), 0.45, by_kind={"residual": 0.54}),
        heat=HeatMap.from_norms(names, STEPS, [[10 ** rng.uniform(-1.4, -0.6) for _ in STEPS] for _ in names]),
        activations=tuple(
            LayerActivation(
                f"blocks.{i}.relu",
                "relu",
                state(0, 0.4, 0.8, 0, 4, dead=0.02, slope=0.5),
                state(199, 0.5, 0.9, 0, 4, dead=0.05, slope=0.45),
            )
            for i in range(9)
        ),
        updates=UpdateRatios.from_ratios(
            tuple(f"{name}.conv1.weight" for name in names),
            STEPS,
            [[10 ** rng.uniform(-3.4, -2.4) for _ in STEPS] for _ in names],
        ),
        losses=LossCurve.from_values(losses, baseline=2.302),
        coverage=Coverage(300, 300, 5.1, 0),
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def inconclusive(healthy):
    """A net that does not learn, and nothing that was tried helped."""
    rng = np.random.default_rng(2)
    return replace(
        healthy,
        title="shuffled_labels",
        verdict="inconclusive",
        headline="It does not learn, and no experiment found out why.",
        ruled_out=("The learning rate.", "The initialization.", "The scale of the inputs.", "The activations."),
        trials=tuple(
            Trial(name, cause, 60, 0.0, rng.uniform(-0.01, 0.01))
            for name, cause in (("a tenth of the learning rate", Cause.LEARNING_RATE), ("ReLU", Cause.ACTIVATION))
        ),
        losses=LossCurve.from_values([2.3 + rng.uniform(-0.02, 0.02) for _ in range(120)], baseline=2.302),
        coverage=Coverage(120, 40_000, 60.0, 2, aborted=True, reason="the time limit of 60 s"),
    )


@pytest.fixture(scope="session")
def cut():
    """Exact zeros behind a dead ReLU, a loss that turns NaN, module names that try to break a page."""
    nasty = '<script>alert("x")</script>'
    rows = (
        Row(f"net.{nasty}", "linear", None, (f"net.{nasty}",), parts=(Part(nasty, "linear", None),)),
        Row("net.relu", "relu", None, ("net.relu",), parts=(Part("ReLU", "relu", None),)),
        Row("net.head", "linear", 0.4, ("net.head",)),
    )
    dead = Finding(
        Condition.DEAD_UNITS,
        Severity.CRITICAL,
        ("net.relu", f"net.{nasty}"),
        (
            Blame(
                Cause.INITIALIZATION, (f"net.{nasty}",), remedies=("he",), sentence="Biases of -10 keep every unit off."
            ),
        ),
        numbers={"dead_share": 1.0, "loss_last": math.nan, "largest_weight": math.inf},
        summary=f"Every unit of net.relu is dead & silent: {nasty}",
        detail="dead 100 %",
    )
    losses = [2.3, 2.4, 30.0, 4e8, math.inf, math.nan, math.nan]
    return Report(
        title=f"cut {nasty}",
        verdict="sick",
        headline="No gradient gets past net.relu, and the loss is NaN from step 4 on.",
        findings=(dead, Finding(Condition.UNSCALED_INPUT, Severity.NOTE, summary="Inputs reach up to 255.")),
        budget=Waterfall(
            rows, 0.4, None, "the output does not vary with the batch", "net.relu", "zero", {"linear": 0.4}
        ),
        heat=HeatMap.from_norms(
            ("net.in", "net.relu", "net.head"),
            (0, 1, 2, 4),
            [[0.0, 0.0, 0.0, math.nan], [0.0, 0.0, 0.0, math.nan], [1.2, 3.0, 1e9, math.inf]],
        ),
        activations=(
            LayerActivation("net.relu", "relu", ActivationState(0, dead=1.0, slope=0.0), None),
            LayerActivation(f"net.{nasty}", "tanh", state(0, 0.0, 0.5, -1, 1, saturated=0.7, slope=0.2), None),
        ),
        updates=UpdateRatios.from_ratios(("net.head.weight",), (0, 1, 2, 4), [[0.5, 2.0, 0.0, math.nan]]),
        losses=LossCurve.from_values(losses, baseline=2.302),
        events=(Event(4, "first loss that is not finite", Severity.CRITICAL),),
        coverage=Coverage(7, 200, 0.4, 0, experimented=False),
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def huge():
    """Five hundred rows, each opened, five hundred layers and parameters."""
    rng = np.random.default_rng(3)
    rows = tuple(
        Row(
            f"model.decoder.layers.{i}.self_attention",
            "residual",
            rng.uniform(-0.1, 0.1) if i % 40 else -1.5,
            (f"model.decoder.layers.{i}",),
            signal_decades=rng.uniform(-0.1, 0.1),
            parts=(
                Part("skip", "identity", share=0.8),
                Part("branch", "branch", share=0.2, parts=tuple(Part(f"op{j}", "linear", -0.1) for j in range(12))),
            ),
        )
        for i in range(500)
    )
    names = tuple(row.name for row in rows)
    steps = tuple(range(120))
    values = [[10 ** rng.uniform(-6, 0) for _ in steps] for _ in names]
    return Report(
        title="huge",
        verdict="sick",
        headline="Many rows.",
        findings=(Finding(Condition.VANISHING, Severity.WARNING, names, summary="Much is lost."),),
        budget=Waterfall(rows, math.fsum(row.decades for row in rows), -1.0),
        heat=HeatMap.from_norms(names, steps, values),
        activations=tuple(
            LayerActivation(name, "gelu", state(0, 0.1, 1, -1, 4, slope=0.4), state(119, 0.1, 1, -1, 4, slope=0.4))
            for name in names
        ),
        updates=UpdateRatios.from_ratios(names, steps, values),
        losses=LossCurve.from_values([rng.uniform(1, 2) for _ in range(20_000)], baseline=2.3),
        coverage=Coverage(20_000, 20_000, 50.0, 9),
        environment=ENVIRONMENT,
    )
