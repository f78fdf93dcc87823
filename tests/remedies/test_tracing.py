"""A forward is rewritten only where a trace of it does the same: in both modes, for gradients, and without a memory."""

import random

import numpy as np
import pytest
import torch
from remedy_recipes import recipe
from surgery_networks import NETWORKS, Branching, batch_for, built
from torch import nn
from torch.nn import functional

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.tracing import rewritable


class Net(nn.Module):
    """Two layers with something between them that is given to it."""

    def __init__(self, way):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.way, self.count, self.seen = way, 0, []

    def forward(self, x):
        return self.second(self.way(self, torch.tanh(self.first(x))))


def facts(build):
    x = batch_for(nn.Linear(6, 6))
    given = recipe(model=build, batches=[x], loss=lambda m, b: m(b).square().mean())
    return Facts(given)


def without_gradient(_, x):
    with torch.no_grad():
        return x * 2


def counted(net, x):
    net.count += 1
    return x / net.count


def remembered(net, x):
    net.seen.append(1)
    return x


def by_type(_, x):
    return x * 2 if isinstance(x, torch.Tensor) else x


def skipped(_, x):
    return x if random.random() < 2 else -x  # noqa: S311 - no secret


UNTRUE = {
    "dropout of this mode": lambda net, x: functional.dropout(x, 0.5, training=net.training),
    "other way in training": lambda net, x: x * 2 if net.training else x,
    "no gradient": without_gradient,
    "a counter": counted,
    "a list": remembered,
    "a type": by_type,
    "python's random numbers": skipped,
    "numpy's random numbers": lambda _, x: x * float(np.random.rand()),  # noqa: NPY002 - the global generator is meant
    "torch's random numbers": lambda _, x: x + torch.randn(6),
    "numbers in a condition": lambda _, x: x if x.sum() > 0 else -x,
}


@pytest.mark.parametrize("way", UNTRUE.values(), ids=UNTRUE.keys())
def test_a_forward_that_a_trace_would_freeze_is_left_alone(way):
    torch.manual_seed(0)
    seen = facts(lambda: Net(way))
    assert rewritable(seen, [""]) == frozenset()


TRUE = {
    "nothing": lambda _, x: x,
    "dropout as a module's": lambda _, x: nn.functional.relu(x) + 1,
    "shapes": lambda _, x: x.view(x.shape[0], 2, 3).flatten(1),
    "noise of the batch's shape": lambda _, x: x + torch.randn_like(x),
    "in place": lambda _, x: x.mul(2).relu_(),
}


@pytest.mark.parametrize("way", TRUE.values(), ids=TRUE.keys())
def test_an_ordinary_forward_is_rewritten(way):
    assert rewritable(facts(lambda: Net(way)), [""]) == {""}


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"branching", "transformer"}))
def test_ordinary_networks_are_rewritten(name):
    x = batch_for(built(name))
    given = recipe(model=NETWORKS[name], batches=[x], loss=lambda m, b: m(b).square().mean())
    assert rewritable(Facts(given), [""]) == {""}


def test_one_forward_that_cannot_be_does_not_hold_back_the_others():
    seen = facts(lambda: nn.Sequential(Net(lambda _, x: x), Net(without_gradient), Branching()))
    assert rewritable(seen, ["", "0", "1", "2"]) == {"", "0"}


def test_a_forward_that_was_changed_on_the_object_is_left_alone():
    def build():
        model = Net(lambda _, x: x)
        model.forward = model.second
        return model

    assert rewritable(facts(build), [""]) == frozenset()


def test_random_state_stays():
    seen = facts(lambda: Net(skipped))
    before = random.getstate(), torch.get_rng_state()
    rewritable(seen, [""])
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
