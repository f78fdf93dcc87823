"""Fresh draws are fresh, the same for the same number, and of the same task."""
# ruff: noqa: NPY002, S311 - what users seed with

import copy
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.random import default_rng as named_rng
from torch import manual_seed as named_seed
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

import train_recipes
from graddoctor.prove.checksum import checksum, checksum_of
from graddoctor.prove.fresh import fresh, order_generators, redraws, seeds_itself
from graddoctor.prove.shift import shifted_seeds
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.testing import zoo
from graddoctor.train import BatchSource, build_model, train
from train_recipes import data, net, recipe


def weights(given):
    return checksum(build_model(given).parameters())


def order(given):
    return [checksum_of(batch) for batch in BatchSource(given).first(6)]


def test_number_0_is_the_recipe_itself():
    given = recipe()
    assert fresh(given, 0) is given


def test_numbers_are_draws_of_their_own():
    given = recipe(batches=train_recipes.shuffled)
    runs = [train(fresh(given, number)).losses.tobytes() for number in (0, 1, 2, 3, 101)]
    assert len(set(runs)) == 5
    assert train(fresh(given, 2)).losses.tobytes() == runs[2]


def test_a_remedy_gets_the_same_draws():
    given = recipe(batches=train_recipes.shuffled)
    one, other = fresh(given, 3), learning_rate(0.0)(fresh(given, 3))
    assert weights(one) == weights(other)
    assert train(one).losses[0] == train(other).losses[0]
    assert order(one) == order(other)


# --- seeds inside the builder

SEEDINGS = {
    "torch.manual_seed": lambda: torch.manual_seed(7),
    "torch.random.manual_seed": lambda: torch.random.manual_seed(7),
    "imported by name": lambda: named_seed(7),
    "np.random.seed": lambda: np.random.seed(7),
    "default_rng": lambda: named_rng(7),
    "default_rng by name": lambda: np.random.default_rng(seed=7),
    "default_rng of several": lambda: np.random.default_rng([7, 8]),
    "RandomState": lambda: np.random.RandomState(7),
    "random.seed": lambda: random.seed(7),
    "random.seed of a name": lambda: random.seed("seven"),
    "random.Random": lambda: random.Random(7),
    "Generator": lambda: torch.Generator().manual_seed(7),
}


def draw(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand(1, generator=generator).item()
    if isinstance(generator, random.Random):
        return generator.random()
    if isinstance(generator, (np.random.Generator, np.random.RandomState)):
        return generator.normal()
    return random.random() + np.random.rand()


@pytest.mark.parametrize("how", SEEDINGS)
def test_a_builder_that_seeds_itself_is_moved_by_the_number(how):
    def build():
        if "random.seed" in how:  # the other of the two
            (np.random.seed if how.startswith("random") else random.seed)(0)
        value = draw(SEEDINGS[how]())
        model = nn.Linear(4, 2)
        for parameter in model.parameters():
            nn.init.constant_(parameter, value)
        return model

    given = recipe(model=build)
    assert seeds_itself(build)
    drawn = [weights(fresh(given, number)) for number in (0, 1, 2)]
    assert len(set(drawn)) == 3
    assert weights(fresh(given, 2)) == drawn[2]
    assert weights(given) == drawn[0]
    assert redraws(given)


def test_stand_ins_are_put_back_whatever_happens():
    before = (torch.manual_seed, torch.Generator, np.random.seed, np.random.RandomState, random.Random, named_seed)
    with shifted_seeds(3):
        meanwhile = (
            torch.manual_seed,
            torch.Generator,
            np.random.seed,
            np.random.RandomState,
            random.Random,
            named_seed,
        )
    with pytest.raises(ZeroDivisionError), shifted_seeds(3):
        1 / 0  # noqa: B018
    assert not any(one is other for one, other in zip(before, meanwhile, strict=True))
    after = (torch.manual_seed, torch.Generator, np.random.seed, np.random.RandomState, random.Random, named_seed)
    assert before == after


def test_stand_ins_pass_for_what_they_stand_in_for():
    outside = (torch.Generator(), np.random.RandomState(1), random.Random(1))
    with shifted_seeds(3):
        assert isinstance(outside[0], torch.Generator)
        assert isinstance(outside[1], np.random.RandomState)
        assert isinstance(outside[2], random.Random)
        made = torch.Generator().manual_seed(4)
        state = np.random.RandomState(4)
        assert np.random.default_rng(np.random.SeedSequence(4)).normal() == np.random.default_rng(made_of(4)).normal()
        unseeded = np.random.default_rng(None)
    assert isinstance(made, torch.Generator)
    assert type(state) is np.random.RandomState
    assert state.rand() == np.random.RandomState(7).rand()
    assert torch.rand(1, generator=copy.deepcopy(made)) == torch.rand(1, generator=torch.Generator().manual_seed(7))
    assert unseeded is not None


def made_of(seed):
    return np.random.SeedSequence(seed)


def test_a_builder_that_does_not_seed_keeps_what_is_fixed_in_it():
    def build():
        model = net()
        model.register_buffer("features", torch.randn(3, generator=torch.Generator().manual_seed(5)))
        return model

    given = recipe(model=build)
    assert not seeds_itself(build)
    fixed = [build_model(fresh(given, number)).features for number in (0, 1)]
    assert torch.equal(*fixed)
    assert weights(fresh(given, 1)) != weights(given)


def test_a_builder_that_takes_the_seed_gets_that_of_the_run():
    seen = []

    def build(seed=0):
        seen.append(seed)
        torch.manual_seed(seed)
        return net()

    given = recipe(model=build, seed=4)
    assert len({weights(fresh(given, number)) for number in range(4)}) == 4
    assert [seed for seed in seen if seed > 2] == [4, *(fresh(given, number).seed for number in (1, 2, 3))]


def test_a_builder_that_cannot_be_hashed_is_a_builder_too():
    @dataclass(eq=True)
    class Build:
        width: int

        def __call__(self):
            torch.manual_seed(3)
            return nn.Linear(4, self.width)

    assert seeds_itself(Build(2))
    assert redraws(recipe(model=Build(2)))


# --- the order of the batches


class Loader:
    """A loader of the user's own."""

    def __init__(self, generator):
        self.generator = generator

    def __iter__(self):
        rows = torch.randperm(24, generator=self.generator)
        return iter([tuple(column[block] for column in data()) for block in rows.split(4)])


def loader(generator=None, **options):
    return DataLoader(TensorDataset(*data()), batch_size=4, generator=generator, **options)


def seeded_generator():
    return torch.Generator().manual_seed(2)


HELD = loader(seeded_generator(), shuffle=True)
ORDERED = {
    "no generator": train_recipes.shuffled,
    "generator": lambda: loader(seeded_generator(), shuffle=True),
    "held loader": HELD,
    "held loader returned": lambda: HELD,
    "sampler": lambda: loader(sampler=RandomSampler(range(24), generator=seeded_generator())),
    "weighted sampler": lambda: loader(sampler=WeightedRandomSampler([1.0] * 24, 24, generator=seeded_generator())),
    "own loader": lambda: Loader(seeded_generator()),
}


@pytest.mark.parametrize("kind", ORDERED)
def test_the_order_is_drawn_anew_and_the_data_stay(kind):
    given = recipe(batches=ORDERED[kind], model=HELD_NET)
    losses = [train(fresh(given, number)).losses.tobytes() for number in (0, 1, 2, 0, 1, 2)]
    assert len(set(losses)) == 3
    assert losses[:3] == losses[3:]
    if kind != "no generator":
        assert order(fresh(given, 1)) != order(given)
    rows = [sorted(torch.cat([b[0] for b in BatchSource(fresh(given, n)).first(9)]).tolist()) for n in (0, 1)]
    assert rows[0] == rows[1] or kind == "weighted sampler"


HELD_NET = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def test_a_network_with_batches_in_a_fixed_order_cannot_be_redrawn():
    given = recipe(model=HELD_NET)
    assert not redraws(given)
    assert order(fresh(given, 1)) == order(given)


def test_data_that_are_made_under_a_seed_stay_the_same():
    def made():
        torch.manual_seed(3)
        x = torch.randn(24, 4)
        return list(zip(x.split(4), (x.sum(1) > 0).long().split(4), strict=True))

    given = recipe(batches=made)
    assert order(fresh(given, 1)) == order(fresh(given, 2)) == order(given)
    streamed = recipe(batches=train_recipes.generated)
    assert redraws(streamed)


def test_generators_of_the_data_are_left_alone():
    class Noisy(TensorDataset):
        def __init__(self):
            super().__init__(*data())
            self.noise = torch.Generator().manual_seed(1)

    made = loader(seeded_generator(), shuffle=True)
    noisy = DataLoader(Noisy(), batch_size=4, shuffle=True, generator=made.generator)
    assert order_generators(noisy) == [made.generator]
    assert order_generators([noisy]) == []
    assert order_generators(iter(train_recipes.generated())) == []


@pytest.mark.parametrize(
    "generator",
    [torch.Generator().manual_seed(1), np.random.default_rng(1), np.random.Generator(np.random.MT19937(1)),
     np.random.RandomState(1), random.Random(1)],
)  # fmt: skip
def test_every_kind_of_generator_is_moved_on_by_the_number(generator):
    class Own:
        def __init__(self):
            self.order = generator
            self.number = draw(generator)

        def __iter__(self):
            shift = draw(self.order)
            return iter([(x + shift, y) for x, y in train_recipes.pairs()])

    own = Own()
    given = recipe(batches=own)
    assert len({tuple(order(fresh(given, number))) for number in (0, 1, 2, 1)}) == 3


def test_every_patient_of_the_zoo_can_be_redrawn():
    patients = zoo()[::9]
    assert all(redraws(patient.recipe) for patient in patients)
    given = patients[0].recipe
    assert order(fresh(given, 1)) != order(given)
