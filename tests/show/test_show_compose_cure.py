"""From a treatment to its report: nothing lost, nothing made up."""

import math
from dataclasses import replace

import pytest
import torch

from graddoctor import Recipe
from graddoctor.prove.proof import prove
from graddoctor.prove.task import Result, Task
from graddoctor.remedies.remedy import Remedy
from graddoctor.show.compose_cure import compose_cure
from graddoctor.terms import Cause
from graddoctor.treat.race import Entry, Rung
from graddoctor.treat.search import Found
from graddoctor.treat.treatment import Treatment, untreated


def net(activation):
    return torch.nn.Sequential(torch.nn.Linear(4, 4), activation(), torch.nn.Linear(4, 1))


def recipe(activation=torch.nn.Sigmoid):
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 4, generator=generator), torch.randn(8, 1, generator=generator)) for _ in range(4)]
    return Recipe(
        model=lambda: net(activation),
        loss=lambda model, batch: torch.nn.functional.mse_loss(model(batch[0]), batch[1]),
        batches=batches,
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        name="tiny",
    )


SWAP = Remedy(
    "ReLU", (Cause.ACTIVATION,), lambda _: recipe(torch.nn.ReLU), source="Nair and Hinton 2010", modules=("1",)
)


def result(progress, **more):
    losses = tuple(1.0 - progress * k / 9 for k in range(10))
    return Result(progress, 1 - progress, None, 100, 2.0, 25, digest=str(progress), curve=losses, **more)


def entry(name, score, of):
    return Entry(replace(SWAP, name=name), score, worth=score, kept=not of.lost, result=of)


@pytest.fixture(scope="module")
def treatment():
    before, after = ([result(base + k / 100) for k in range(5)] for base in (0.1, 0.8))
    lost = entry("SELU", math.nan, result(0.0, ended="non-finite"))
    failed = entry("LSUV", math.nan, result(0.0, failed="ValueError: no"))
    rungs = (
        Rung(50, (entry("ReLU", 0.6, after[0]), lost, failed), "first choice"),
        Rung(100, (entry("ReLU", 0.8, after[0]),), "first choice"),
    )
    given = recipe()
    return Treatment(
        given=given,
        recipe=SWAP(given),
        remedies=(SWAP,),
        verdict="cured",
        proof=prove(before, after, range(101, 106), 5),
        found=Found(SWAP, rungs, None, None, (("LSUV", "ValueError: no"),)),
        trials=((Task(None), before[0]), (Task(SWAP), after[0])),
    )


def composed(treatment, checkup):
    return compose_cure(checkup, treatment, source="x = 1\n", diff="", seconds=3.5, workers=2, threads=1)


def test_a_cure_is_told_with_all_that_was_proven(treatment, sick):
    report = composed(treatment, sick)
    assert (report.title, report.verdict, report.checkup) == (sick.title, "cured", sick)
    assert [one.name for one in report.remedies] == ["ReLU"]
    assert report.remedies[0].source == "Nair and Hinton 2010"
    proof = report.proof
    assert (proof.verdict, proof.planned, proof.distinct, proof.name) == ("better", 5, 5, "ReLU")
    assert [pair.seed for pair in proof.pairs] == [101, 102, 103, 104, 105]
    assert all(pair.difference == pytest.approx(0.7) for pair in proof.pairs)
    assert (report.effort.steps, report.effort.plain_runs) == (200, 2.0)
    assert report.source == "x = 1\n"


def test_both_networks_are_probed_and_named(treatment, sick):
    report = composed(treatment, sick)
    assert report.budgets.before is sick.budget
    assert report.classes["1"] == "ReLU"
    assert any("1" in row.modules for row in report.budgets.after.rows)


def test_curves_keep_their_steps_and_their_baseline(treatment, sick):
    curves = composed(treatment, sick).curves
    assert curves.seed == 101
    assert curves.before.steps == tuple(range(0, 100, 11))
    assert curves.before.baseline == sick.losses.baseline
    assert curves.after.values[-1] == pytest.approx(0.2)


def test_the_race_says_who_was_lost_and_why(treatment, sick):
    race = composed(treatment, sick).race
    assert (race.winner, race.measure) == ("ReLU", "progress")
    assert [(rung.steps, rung.title) for rung in race.rungs] == [(50, "first choice"), (100, "first choice")]
    assert [(entry.name, entry.lost) for entry in race.rungs[0].entries] == [
        ("ReLU", ""),
        ("SELU", "the loss was not finite any more"),
        ("LSUV", "ValueError: no"),
    ]
    assert math.isnan(race.rungs[0].entries[1].score)
    scored = replace(treatment, given=replace(treatment.given, evaluate=lambda _: 0.5))
    assert composed(scored, sick).race.measure == "metric"


@pytest.mark.parametrize("verdict", ["sound", "interrupted"])
def test_what_is_left_as_it_is_has_no_second_side(verdict, healthy):
    report = composed(untreated(recipe(), verdict), healthy)
    assert report.verdict == verdict
    assert report.remedies == ()
    assert report.proof is report.curves is report.race is report.budgets.after is None
    assert bool(report.aborted) == (verdict == "interrupted")
    assert report.headline.endswith(".")


def test_a_treated_network_that_cannot_be_probed_costs_its_picture_only(treatment, sick):
    def broken():
        raise RuntimeError

    report = composed(replace(treatment, recipe=replace(treatment.given, model=broken)), sick)
    assert report.budgets.after is None
    assert report.proof is not None
