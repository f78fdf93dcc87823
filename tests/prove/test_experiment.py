"""An experiment changes one thing, is paired with the plain run, and is run once."""

import math
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

from graddoctor.prove.experiment import NOTICEABLE, Bench, Plain
from graddoctor.prove.yardstick import measure, smoothed, window_of
from graddoctor.recipe import Recipe
from graddoctor.remedies.data import standardised_targets
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.remedies.precision import float32
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import train

X = torch.randn(128, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def recipe(rate=1e-4, **changes):
    parts = {"model": build, "loss": loss, "batches": list(zip(X.split(16), Y.split(16), strict=True)), "epochs": 20}
    return Recipe(**{**parts, "optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=rate), **changes})


def plain_of(given):
    outcome, yardstick = train(given), measure(given)
    window = window_of(outcome.steps_per_epoch, outcome.steps)
    return Plain(outcome, yardstick, yardstick.progress(smoothed(outcome.losses, window)))


def bench(given=None, **options):
    given = given or recipe()
    return Bench(given, plain_of(given), **{"steps": 10_000, **options})


def nothing(cause=Cause.LOSS):
    return Remedy("nothing", (cause,), lambda r: r)


SLOW = bench()


def test_what_is_missing_is_what_is_left_to_gain():
    assert SLOW.plain.progress < 0.1
    assert SLOW.plain.missing == pytest.approx(1 - SLOW.plain.progress)
    assert Plain(SLOW.plain.outcome, SLOW.plain.yardstick, 1.5).missing == 0.0


def test_a_change_that_helps_gains_and_ends_early():
    arm = SLOW.run(learning_rate(3e3))
    assert arm.gain > 0.5
    assert arm.progress == pytest.approx(arm.gain + SLOW.plain.progress)
    assert arm.outcome.ended == "stopped"
    assert arm.outcome.steps < 80
    assert SLOW.enough(arm)
    assert arm.cause is Cause.LEARNING_RATE
    assert not arm.failed


def test_no_change_gains_nothing():
    full = SLOW.run(nothing(), 1.0)
    assert full.outcome.steps == SLOW.plain.outcome.steps
    assert full.outcome.losses.tolist() == SLOW.plain.outcome.losses.tolist()
    assert full.gain == pytest.approx(0.0, abs=1e-12)
    assert not SLOW.enough(full)
    assert abs(SLOW.run(nothing()).gain) < NOTICEABLE


def test_a_run_goes_on_for_its_share_and_no_fewer_than_sixty_four_steps():
    assert [SLOW.run(nothing(), share).outcome.steps for share in (1.0, 0.5, 0.01)] == [160, 80, 64]
    short = bench(recipe(epochs=2))
    assert short.run(nothing(), 0.25).outcome.steps == 16


def test_an_experiment_is_run_once_at_each_length():
    told = []
    here = bench(announce=told.append)
    first = here.run(nothing())
    left = here.steps_left
    assert here.run(nothing()).outcome.losses is first.outcome.losses
    assert here.steps_left == left == 10_000 - 80
    here.run(nothing(), 1.0)
    assert told == ["nothing", "nothing"]
    assert len(here.arms) == 2


def test_only_the_last_networks_are_held():
    here = bench()
    for factor in (1, 2, 3):
        here.run(learning_rate(factor))
    held = [len(list(arm.outcome.model.parameters())) for arm in here.arms.values()]
    assert held == [0, 4, 4]


def test_a_change_that_does_not_fit_is_lost_and_not_the_check():
    def breaks(given):
        raise ValueError("first line\nsecond")

    here = bench()
    arm = here.run(Remedy("broken", (Cause.LOSS,), breaks))
    assert arm.failed == "ValueError: first line"
    assert arm.outcome is None
    assert arm.evaluation is None
    assert arm.gain == -here.plain.progress
    assert not here.enough(arm)
    assert here.steps_left == 9_999


def test_a_change_that_fails_while_it_trains_is_lost_too():
    def change(given):
        return given.with_(loss=lambda m, b: loss(m, (b[0][:, :1], b[1])))

    assert bench().run(Remedy("broken", (Cause.LOSS,), change)).failed.startswith("RuntimeError")


def test_an_interruption_is_no_failure():
    def change(given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench().run(Remedy("interrupted", (Cause.LOSS,), change))


def test_a_run_that_is_not_finite_has_no_progress():
    arm = bench().run(Remedy("nan", (Cause.LOSS,), lambda r: r.with_(loss=lambda m, b: loss(m, b) * math.nan)))
    assert arm.progress == 0.0
    assert arm.outcome.ended == "non-finite"


def test_a_plain_run_that_broke_is_compared_over_its_whole_length():
    given = recipe(loss=lambda m, b: loss(m, b) * math.nan)
    here = bench(given)
    assert here.plain.outcome.steps < 160
    assert here.run(nothing(), 1.0).outcome.total_steps == 160
    mended = here.run(Remedy("mended", (Cause.LOSS,), lambda r: r.with_(loss=loss)), 1.0)
    assert mended.outcome.steps == 160


def test_the_metric_must_not_disagree():
    metrics = iter([0.9, 0.9, 0.5, math.nan])
    given = recipe(evaluate=lambda _: next(metrics))
    here = bench(given)
    same, worse, lost = (here.run(learning_rate(f)) for f in (3e3, 3.1e3, 3.2e3))
    assert (same.metric_gain, same.contradicted, here.enough(same)) == (0.0, False, True)
    assert worse.metric_gain == pytest.approx(-0.4)
    assert worse.evaluation == 0.5
    assert worse.contradicted
    assert here.enough(worse)  # by its loss; whether the metric has a say is decided in `decide`
    assert lost.metric_gain == -math.inf


def test_the_budget_of_steps_and_seconds():
    here = bench(steps=100)
    assert not here.exhausted
    here.run(nothing())
    assert not here.exhausted
    here.run(nothing(), 1.0)
    assert here.exhausted
    assert here.aborted == "the steps for experiments were used up"
    late = bench(deadline=time.monotonic())
    assert late.exhausted
    assert late.aborted == "the time for experiments was used up"


def test_scaled_targets_have_a_yardstick_of_their_own():
    y = 1000 * X[:, :1] + 5000
    given = recipe(
        model=lambda: nn.Linear(4, 1),
        loss=lambda m, b: (m(b[0]) - b[1]).square().mean(),
        batches=list(zip(X.split(16), y.split(16), strict=True)),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
        epochs=1,
    )
    arm = bench(given, steps=1000).run(standardised_targets(), 1.0)
    assert 0 < arm.progress < 1
    losses = arm.outcome.losses
    assert arm.progress == pytest.approx(1 - smoothed(losses, window_of(8, 8)), abs=0.05)  # of targets of variance one


def test_the_context_of_a_remedy_is_entered():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = build()

        def forward(self, x):
            return self.net(x).half().float()

    given = recipe(model=Half, epochs=2)
    arm = bench(given).run(float32(), 1.0)
    assert arm.outcome.losses.tolist() == train(recipe(epochs=2)).losses.tolist()
