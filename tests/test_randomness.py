"""Whatever random numbers come from is found, seeded, and put back as it was."""

import functools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, RandomSampler, Subset, TensorDataset

from graddoctor.randomness import (
    generators_of,
    kept_generators,
    kept_random_state,
    seed_everything,
    seeded,
    snapshot,
)

GLOBAL = torch.Generator()


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002, S311


def test_a_seed_decides_all_three_libraries():
    with kept_random_state():
        seed_everything(3)
        first = draws()
        seed_everything(3)
        assert draws() == first
        seed_everything(4)
        assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_a_seed_beyond_numpys_range_is_taken():
    with kept_random_state():
        seed_everything(2**40 + 1)


@pytest.mark.parametrize("block", [kept_random_state, functools.partial(seeded, 7)])
def test_global_state_is_put_back_also_after_an_error(block):
    with kept_random_state():
        seed_everything(0)
        expected = draws()
        seed_everything(0)
        with pytest.raises(ZeroDivisionError), block():
            _ = draws()[0] / 0
        assert draws() == expected


KINDS = {
    "torch": (lambda: torch.Generator().manual_seed(1), lambda g: float(torch.rand((), generator=g))),
    "numpy": (lambda: np.random.default_rng(1), lambda g: g.random()),
    "numpy, old": (lambda: np.random.RandomState(1), lambda g: g.rand()),
    "python": (lambda: random.Random(1), lambda g: g.random()),  # noqa: S311
}


@pytest.mark.parametrize(("make", "draw"), KINDS.values(), ids=KINDS.keys())
def test_generators_of_every_kind_are_put_back(make, draw):
    generator = make()
    with kept_generators([generator]):
        expected = draw(generator), draw(generator)
    put_back = snapshot([generator])
    assert (draw(generator), draw(generator)) == expected
    put_back()
    assert draw(generator) == expected[0]
    put_back()  # as often as wanted
    assert draw(generator) == expected[0]


class Noisy(Dataset):
    def __init__(self, generator):
        self.generator = generator

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(float(index))


class Loader:
    def __init__(self, generator):
        self.inner = {"generator": generator}
        self.generator = generator

    def draw(self):
        return self.generator


def ways(g):
    data = TensorDataset(torch.zeros(4))

    def function():
        return torch.rand(1, generator=g)

    def default(generator=g):
        return generator

    def generating():
        held = g
        yield held

    running = generating()
    next(running)
    return {
        "loader": DataLoader(data, generator=g, shuffle=True),
        "sampler": DataLoader(data, sampler=RandomSampler(data, generator=g)),
        "data set": DataLoader(Noisy(g)),
        "subset": DataLoader(Subset(Noisy(g), [0, 1])),
        "concatenated": DataLoader(ConcatDataset([Noisy(g), Noisy(g)])),
        "closure": function,
        "closure of a closure": lambda: (function(), 1),
        "default": default,
        "partial": functools.partial(print, g),
        "keyword of a partial": functools.partial(print, generator=g),
        "own class": Loader(g),
        "method": Loader(g).draw,
        "running generator": running,
        "collate": DataLoader(data, collate_fn=lambda rows: (rows, g)),
        "itself": g,
    }


@pytest.mark.parametrize("way", ways(GLOBAL).keys())
def test_generators_are_found_wherever_they_are_held(way):
    mine = torch.Generator()
    assert generators_of(ways(mine)[way]) == [mine]


def test_a_global_of_the_users_file_is_found():
    def function():
        return torch.rand(1, generator=GLOBAL)

    assert generators_of(function) == [GLOBAL]


def test_each_is_found_once_and_rings_end():
    mine = torch.Generator()
    ring = Loader(mine)
    ring.me = [ring, ring, Loader(mine)]
    assert generators_of(ring, ring, lambda: ring) == [mine]


def test_long_lists_of_samples_are_not_searched():
    samples = [torch.Generator() for _ in range(100)]
    assert generators_of(lambda: samples) == []


def test_nothing_has_no_generators():
    assert generators_of(None, 3, "x", torch.nn.Linear(2, 2), int, DataLoader(TensorDataset(torch.zeros(2)))) == []
