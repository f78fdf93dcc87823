import math

import torch
from torch import nn

from graddoctor.diagnose.origin import origin_of
from graddoctor.recipe import Recipe
from graddoctor.terms import Cause

X = torch.linspace(-1, 1, 32).reshape(8, 4)


def recipe(model, loss, rows=X):
    def build():
        torch.manual_seed(0)
        return model()

    return Recipe(
        model=build, loss=loss, batches=[rows, rows], optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.1)
    )


class Halves(nn.Module):
    """Divides by the spread of each row's first half, which is constant."""

    def forward(self, x):
        return x / (x[:, :1] - x[:, :1])


def linear():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))


def test_a_logarithm_of_zero_in_the_loss():
    origin = origin_of(recipe(linear, lambda m, x: (m(x) * 0).log().mean()), 0, 4)
    assert (origin.operation, origin.where, origin.cause) == ("log", "loss", Cause.LOSS)
    assert origin.largest == 0


def test_a_division_by_zero_in_the_network_is_placed_in_its_module():
    origin = origin_of(recipe(lambda: nn.Sequential(nn.Linear(4, 4), Halves()), lambda m, x: m(x).mean()), 0, 4)
    assert (origin.operation, origin.module, origin.cause) == ("div", "1", Cause.NORMALIZATION)


def test_an_infinite_slope_is_found_on_the_way_back():
    origin = origin_of(recipe(linear, lambda m, x: (m(x) * 0).square().sum().sqrt()), 1, 4)
    assert origin.backward
    assert (origin.step, origin.where) == (0, "loss")


def test_a_broken_batch_is_named():
    rows = X.clone()
    rows[3, 2] = math.nan
    origin = origin_of(recipe(linear, lambda m, x: m(x).mean(), rows), 0, 4)
    assert (origin.where, origin.cause) == ("input", Cause.INPUT_SCALE)
    assert "batch" in origin.sentence


def test_an_overflowing_product_shows_only_that_something_grew():
    def ones():
        layer = nn.Linear(4, 1)
        nn.init.ones_(layer.weight)
        return layer

    origin = origin_of(recipe(ones, lambda m, x: m(x).mean(), torch.full((8, 4), 3e38)), 0, 4)
    assert (origin.operation, origin.cause) == ("linear", None)
    assert origin.largest > 1e38
