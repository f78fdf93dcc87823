"""Dealt anew, every sample comes once an epoch; what a loader was told otherwise stays."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from graddoctor.remedies.plain.loaders import ShuffledBatches, shuffle_batches

DATA = TensorDataset(torch.arange(20), torch.arange(20) * 10)


def collate(rows):
    return {"x": torch.stack([row[0] for row in rows]), "y": torch.stack([row[1] for row in rows])}


def test_a_loader_is_built_again_with_all_that_it_was_told():
    generator = torch.Generator().manual_seed(7)
    options = {"batch_size": 6, "drop_last": True, "collate_fn": collate, "generator": generator, "timeout": 0}
    twin = shuffle_batches(DataLoader(DATA, **options))
    assert isinstance(twin.sampler, RandomSampler)
    assert (twin.dataset, twin.batch_size, twin.drop_last) == (DATA, 6, True)
    assert (twin.collate_fn, twin.generator) == (collate, generator)
    first, second = ([batch["x"].tolist() for batch in twin] for _ in range(2))
    assert [len(rows) for rows in first] == [6, 6, 6]
    assert first != second
    assert all(torch.equal(batch["x"] * 10, batch["y"]) for batch in twin)


OTHERS = {
    "a list": lambda: list(DataLoader(DATA, 6)),
    "a generator": lambda: iter(DataLoader(DATA, 6)),
    "a batch sampler": lambda: DataLoader(DATA, batch_sampler=[[0, 1, 2], [3, 4, 5], list(range(6, 20))]),
    "a list of dicts": lambda: list(DataLoader(DATA, 6, collate_fn=collate)),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_anything_else_is_dealt_anew_each_epoch(make):
    sizes = [len(batch["x"] if isinstance(batch, dict) else batch[0]) for batch in make()]
    dealt = shuffle_batches(make())
    assert isinstance(dealt, ShuffledBatches)
    assert len(dealt) == len(sizes)
    epochs = []
    for _ in range(2):
        columns = [(b["x"], b["y"]) if isinstance(b, dict) else b for b in dealt]
        assert [len(x) for x, _ in columns] == sizes
        assert all(torch.equal(10 * x, y) for x, y in columns)
        epochs.append(torch.cat([x for x, _ in columns]).tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]


def test_the_order_follows_the_global_generator():
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append([batch.tolist() for batch in shuffle_batches([torch.arange(8), torch.arange(8, 16)])])
    assert orders[0] == orders[1] != orders[2]


def test_what_a_source_draws_anew_each_epoch_it_still_does():
    class Noisy:
        def __iter__(self):
            return (torch.randn(4) for _ in range(3))

    first, second = (torch.cat(list(epoch)) for epoch in [shuffle_batches(Noisy())] * 2)
    assert not set(first.tolist()) & set(second.tolist())


def test_what_has_no_length_has_none_afterwards():
    class Unsized:
        def __iter__(self):
            return iter([torch.arange(4), torch.arange(4)])

    with pytest.raises(TypeError, match="has no len"):
        len(shuffle_batches(Unsized()))


def test_what_is_the_same_in_every_batch_stays():
    batches = [{"x": torch.arange(3) + 3 * k, "kind": "train", "weight": None} for k in range(3)]
    for batch in shuffle_batches(batches):
        assert (batch["kind"], batch["weight"]) == ("train", None)


UNDEALT = {
    "strings": [{"x": torch.arange(2), "name": ["a", "b"]}, {"x": torch.arange(2), "name": ["c", "d"]}],
    "another length": [(torch.arange(2), torch.arange(5))] * 2,
    "single numbers": [(torch.arange(2), torch.tensor(1.0)), (torch.arange(2), torch.tensor(2.0))],
}


@pytest.mark.parametrize("batches", UNDEALT.values(), ids=UNDEALT.keys())
def test_what_cannot_be_dealt_is_refused(batches):
    with pytest.raises(TypeError, match="expected tensors with one row a sample"):
        next(iter(shuffle_batches(batches)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**31))
def test_samples_are_neither_lost_nor_doubled(sizes, seed):
    torch.manual_seed(seed)
    batches = list(torch.split(torch.arange(sum(sizes)), sizes))
    dealt = list(shuffle_batches(batches))
    assert [len(batch) for batch in dealt] == sizes
    assert Counter(torch.cat(dealt).tolist()) == Counter(range(sum(sizes)))
