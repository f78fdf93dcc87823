"""Batches of all kinds are trained on; those that are used up are refused."""

import functools
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch

from graddoctor.errors import RecipeError
from graddoctor.train import train
from train_recipes import loss, pairs, recipe

Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the old spelling must work too


@dataclass
class Sample:
    x: torch.Tensor
    y: torch.Tensor


def as_dict(x, y):
    return {"x": x, "y": y}


def by_attribute(model, batch):
    return loss(model, (batch.x, batch.y))


KINDS = {
    "tuple": (lambda x, y: (x, y), loss),
    "list": (lambda x, y: [x, y], loss),
    "dict": (as_dict, lambda m, b: loss(m, (b["x"], b["y"]))),
    "dataclass": (Sample, by_attribute),
    "namedtuple": (Pair, by_attribute),
    "tensor": (lambda x, y: torch.cat([x, y[:, None].float()], 1), lambda m, b: loss(m, (b[:, :4], b[:, 4].long()))),
}


@pytest.mark.parametrize(("pack", "unpack"), KINDS.values(), ids=KINDS.keys())
def test_batches_may_be_of_any_kind(pack, unpack):
    packed = train(recipe(batches=lambda: [pack(*pair) for pair in pairs()], loss=unpack))
    assert packed.losses == pytest.approx(train(recipe()).losses, rel=1e-6)


def test_generator_functions_are_called_again_for_each_epoch():
    calls = []

    def generate():
        calls.append(len(calls))
        yield from pairs()

    outcome = train(recipe(batches=generate, epochs=3))
    assert outcome.steps == 18
    assert len(calls) == 4  # once to count, then once an epoch
    assert outcome.losses.tolist() == train(recipe(epochs=3)).losses.tolist()


def test_a_loader_is_asked_for_once_a_run():
    calls = []

    def make():
        calls.append(1)
        return pairs()

    train(recipe(batches=make, epochs=3))
    assert len(calls) == 1


class OnlyOnce:
    """An iterable, no iterator, whose one pass is used up."""

    def __init__(self):
        self.batches = iter(pairs())

    def __iter__(self):
        return self.batches


class KnowsItsLength(OnlyOnce):
    def __len__(self):
        return 6


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: (pair for pair in pairs()), "generator object that is used up after one pass"),
        (lambda: iter(pairs()), "list_iterator object that is used up after one pass"),
        (lambda: functools.partial(lambda g: g, (p for p in pairs())), "the same generator object twice"),
        (lambda: functools.partial(lambda z: z, zip(pairs(), strict=True)), "the same zip object twice"),
        (OnlyOnce, "gave nothing in epoch 1: it is used up"),
        (list, "no batch at all"),
        (lambda: list, "no batch at all"),
        (lambda: lambda: (p for p in ()), "no batch at all"),
        (lambda: lambda: 3, "it gave int"),
        (lambda: lambda: None, "it gave NoneType"),
    ],
)
def test_batches_that_cannot_be_trained_on_are_refused_in_one_line(make, says, epochs):
    with pytest.raises(RecipeError, match=says) as caught:
        train(recipe(batches=make(), epochs=epochs))
    assert "\n" not in str(caught.value)


def test_batches_that_are_used_up_after_the_first_epoch_are_refused():
    assert train(recipe(batches=KnowsItsLength(), epochs=1)).steps == 6
    with pytest.raises(RecipeError, match="gave nothing in epoch 2"):
        train(recipe(batches=KnowsItsLength(), epochs=2))
