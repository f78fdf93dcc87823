"""A sweep finds the rate, however far off the given one is, without a trace in the recipe or its schedule."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from graddoctor.prove.sweep import HIGHEST, LOWEST, sweep
from graddoctor.prove.yardstick import Yardstick, measure
from graddoctor.recipe import Recipe
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.train import train

X = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, :2].prod(1) > 0).long()


def build():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


OPTIMIZERS = {
    "sgd": (0.5, lambda m, lr: torch.optim.SGD(m.parameters(), lr=lr)),
    "adam": (0.01, lambda m, lr: torch.optim.Adam(m.parameters(), lr=lr)),
}


def recipe(factor=1.0, kind="sgd", **changes):
    rate, make = OPTIMIZERS[kind]
    parts = {"model": build, "loss": loss, "batches": list(zip(X.split(32), Y.split(32), strict=True)), "epochs": 20}
    return Recipe(**{**parts, "optimizer": lambda m: make(m, factor * rate), **changes})


YARDSTICK = measure(recipe())


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_rate_that_is_a_thousand_times_off_is_found_within_a_decade(factor, kind):
    good, found = sweep(recipe(1.0, kind), YARDSTICK), sweep(recipe(factor, kind), YARDSTICK)
    assert good.best is not None
    assert found.best is not None
    assert abs(math.log10(found.best * factor / good.best)) < 1
    assert LOWEST <= found.best <= HIGHEST
    assert found.diverged is None or found.best < found.diverged


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_a_third_of_what_was_found_trains(factor, kind):
    found = sweep(recipe(factor, kind), YARDSTICK)
    given = recipe(factor, kind)
    losses = train(learning_rate(found.best / 3)(given)).losses
    assert YARDSTICK.progress(float(losses[-8:].mean())) > 0.5
    if factor != 1.0:
        off = train(given).losses
        assert YARDSTICK.progress(float(off[-8:].mean())) < 0.2


def test_the_curve_is_by_factor():
    found = sweep(recipe(), YARDSTICK)
    assert len(found.factors) == len(found.losses)
    assert (np.diff(found.factors) > 0).all()
    assert found.losses[0] == pytest.approx(math.log(2), rel=0.2)
    below = found.losses[found.factors < found.diverged]
    assert below.min() == found.losses[found.factors == found.best][0]


def test_where_nothing_learns_there_is_no_best():
    deaf = recipe(loss=lambda m, b: functional.cross_entropy(m(0 * b[0]) * 1e-9, b[1]))
    assert sweep(deaf, YARDSTICK).best is None
    broken = recipe(loss=lambda m, b: loss(m, b) * math.nan)
    assert sweep(broken, YARDSTICK).best is None


def test_a_loss_that_breaks_later_is_taken_up_to_there():
    def build_exponential():
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))

    found = sweep(
        recipe(model=build_exponential, loss=lambda m, b: m(b[0]).exp().mean()), Yardstick(1.0, computed=True)
    )
    assert found.diverged is None or found.best < found.diverged


@pytest.mark.parametrize("steps", [1, 4, 8, 20])
def test_short_sweeps_do_not_fail(steps):
    found = sweep(recipe(), YARDSTICK, steps=steps)
    assert len(found.factors) == len(found.losses) <= steps


def test_the_schedule_and_the_metric_are_left_out():
    def never(*_):
        raise AssertionError

    given = recipe(scheduler=never, evaluate=never)
    assert sweep(given, YARDSTICK).best == sweep(recipe(), YARDSTICK).best


def test_rates_are_put_back_after_every_step():
    seen = []

    class Watched(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):  # noqa: FBT002 - torch's own signature
            seen.append(self.param_groups[0]["lr"])
            super().zero_grad(set_to_none)

    sweep(recipe(optimizer=lambda m: Watched(m.parameters(), lr=0.25)), YARDSTICK)
    assert set(seen) == {0.25}


def test_a_treated_recipe_is_swept_within_its_context():
    entered = []

    class Around:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *_):
            pass

    sweep(recipe(), YARDSTICK, around=Around, steps=16)
    assert entered == [1]


def test_an_interrupted_sweep_says_so():
    def interrupt(model, batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(recipe(loss=interrupt), YARDSTICK)
