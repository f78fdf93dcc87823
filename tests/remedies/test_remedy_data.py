"""Inputs and targets are standardised in batches of every kind; what the network is given is told from the rest."""

import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import strategies as st
from remedy_recipes import Headed, cross_entropy, data, recipe, same_training
from torch import nn

from graddoctor.nested import leaves
from graddoctor.remedies.data import come_ordered, shuffled, standardised_inputs, standardised_targets
from graddoctor.remedies.moments import target_moments
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, train

Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the old spelling must work too


@dataclass
class Sample:
    x: torch.Tensor
    y: torch.Tensor


KINDS = {
    "tuple": (lambda x, y: (x, y), lambda b: (b[0], b[1])),
    "list": (lambda x, y: [x, y], lambda b: (b[0], b[1])),
    "dict": (lambda x, y: {"x": x, "y": y}, lambda b: (b["x"], b["y"])),
    "namedtuple": (Pair, lambda b: (b.x, b.y)),
    "dataclass": (Sample, lambda b: (b.x, b.y)),
    "nested": (lambda x, y: {"in": [x], "out": (y, None)}, lambda b: (b["in"][0], b["out"][0])),
}
every_kind = pytest.mark.parametrize(("pack", "unpack"), KINDS.values(), ids=KINDS.keys())

X = data(64)[0] * torch.tensor([1.0, 100.0, 0.01, 1, 1, 1]) + torch.tensor([500.0, 0, 0, 0, -3, 0])
Y = 1000 * data(64)[0][:, :1] + 70


def regression(pack, unpack, x=X, y=Y, prepare=lambda x: x):
    def loss(model, batch):
        inputs, targets = unpack(batch)
        return (model(prepare(inputs)) - targets).square().mean()

    batches = [pack(a, b) for a, b in zip(x.split(16), y.split(16), strict=True)]
    return recipe(model=lambda: Headed(lambda z: z, units=1), loss=loss, batches=batches)


def seen_inputs(given):
    """What a treated network's own layers are given."""
    model, seen = build_model(given), []
    model.body[0].register_forward_hook(lambda _, args, __: seen.append(args[0].detach()))
    for batch in BatchSource(given).epoch(0):
        given.loss(model, batch)
    return torch.cat(seen)


# Inputs


@every_kind
def test_each_feature_gets_mean_zero_and_deviation_one(pack, unpack):
    seen = seen_inputs(standardised_inputs()(regression(pack, unpack)))
    twin = (X.double() - X.double().mean(0)) / X.double().std(0)
    assert torch.allclose(seen.double(), twin, atol=2e-3)


def channels(shape):
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([1.0, 50, 0.1]).view(-1, *[1] * (len(shape) - 2))
    return torch.randn(shape, generator=generator) * size + 20 * size


@pytest.mark.parametrize("shape", [(16, 3, 5, 5), (16, 3, 2, 4, 4)])
def test_images_and_videos_are_standardised_by_channel(shape):
    flat = math.prod(shape[1:])
    x = channels(shape)
    seen = []

    def build():
        model = nn.Sequential(nn.Flatten(), nn.Linear(flat, 1))
        model[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
        return model

    treated = standardised_inputs()(recipe(model=build, batches=[x], loss=lambda m, b: m(b).mean()))
    model = build_model(treated)
    seen.clear()
    treated.loss(model, x)
    axes = [0, *range(2, len(shape))]
    assert seen[0].mean(axes).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert seen[0].std(axes).tolist() == pytest.approx([1] * 3, rel=1e-4)


def test_sequences_are_standardised_by_their_last_axis_and_scalars_as_one_feature():
    for x in (X.view(8, 8, 6), X[:, 0]):
        seen = []

        class Keeping(nn.Linear):
            def forward(self, inputs, seen=seen):
                seen.append(inputs)
                return super().forward(inputs.reshape(len(inputs), -1)[:, :1])

        given = recipe(model=lambda keeping=Keeping: keeping(1, 1), batches=[x], loss=lambda m, b: m(b).mean())
        treated = standardised_inputs()(given)
        seen.clear()
        treated.loss(build_model(treated), x)
        flat = seen[0].reshape(-1, x.shape[-1] if x.ndim > 1 else 1)
        assert flat.mean(0).abs().max() < 1e-3
        assert flat.std(0).tolist() == pytest.approx([1] * flat.shape[1], rel=1e-3)


def test_constant_and_nearly_constant_features_stay_small():
    x = data(64)[0].clone()
    x[:, 0] = 7.0
    x[:, 1] = 0.0
    x[5, 1] = 1000.0
    seen = seen_inputs(standardised_inputs()(regression(*KINDS["tuple"], x=x)))
    assert seen[:, 0].abs().max() == 0
    assert seen.abs().max() <= 10.0 + 1e-4


def test_standard_inputs_hardly_change_and_whole_numbers_not_at_all():
    tokens = torch.arange(12).view(4, 3)
    given = recipe(model=lambda: nn.Embedding(12, 2), batches=[tokens], loss=lambda m, b: m(b).square().mean())
    assert same_training(standardised_inputs()(given), given)


def test_inputs_by_keyword_are_standardised_too():
    given = regression(*KINDS["tuple"])

    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 1))

        def forward(self, *, features):
            return self.body(features)

    by_keyword = given.with_(model=Keyword, loss=lambda m, b: (m(features=b[0]) - b[1]).square().mean())
    assert seen_inputs(standardised_inputs()(by_keyword)).std(0).tolist() == pytest.approx([1.0] * 6, rel=1e-3)


def test_a_wild_scale_trains_once_it_is_gone():
    given = regression(*KINDS["tuple"], y=Y / 1000).with_(epochs=30)
    assert not train(given).losses[-4:].mean() < 0.8  # it stands still or is not a number
    assert train(standardised_inputs()(given)).losses[-4:].mean() < 0.3


# Targets


@every_kind
def test_targets_get_mean_zero_and_deviation_one(pack, unpack):
    given = regression(pack, unpack)
    seen = []
    spying = given.with_(loss=lambda m, b: (seen.append(unpack(b)[1]), given.loss(m, b))[1])
    treated = standardised_targets()(spying)
    model = build_model(treated)
    seen.clear()
    for batch in given.batches:
        treated.loss(model, batch)
    got = torch.cat(seen)
    assert float(got.mean()) == pytest.approx(0, abs=1e-4)
    assert float(got.std()) == pytest.approx(1, rel=1e-4)


def test_the_network_answers_in_the_old_units_but_for_the_loss():
    treated = standardised_targets()(regression(*KINDS["tuple"], x=data(64)[0])).with_(epochs=60)
    model = train(treated).model.eval()
    x = data(64)[0]
    with torch.no_grad():
        answer = model(x)
        assert float((answer - Y).square().mean()) < 0.3 * float(Y.var())
        assert torch.equal(model.train()(x), answer)
        raw = model.body(x)
    assert torch.allclose(raw * Y.std() + Y.mean(), answer, rtol=1e-4)
    mean_squares = [float(treated.loss(model, batch).detach()) for batch in treated.batches]
    assert sum(mean_squares) / 4 * float(Y.var()) == pytest.approx(float((answer - Y).square().mean()), rel=1e-4)


PREPARED = {
    "as it is": lambda x: x,
    "reshaped": lambda x: x.reshape(-1, 6)[:, None].squeeze(1),
    "cast": lambda x: x.double().float(),
    "shifted": lambda x: x - x.mean(),
    "noisy": lambda x: x + 0.1 * torch.randn_like(x),
    "detached": lambda x: x.detach(),
    "in place": lambda x: x.add_(0),
}


@every_kind
@pytest.mark.parametrize("prepare", PREPARED.values(), ids=PREPARED.keys())
def test_inputs_are_no_targets_however_they_are_prepared(prepare, pack, unpack):
    given = regression(pack, unpack, prepare=prepare)
    found = target_moments(given)
    ((path, (mean, std)),) = found.items()
    assert dict(leaves(pack(X, Y)))[path] is not None
    assert float(mean) == pytest.approx(float(Y.mean()), rel=1e-4)
    assert float(std) == pytest.approx(float(Y.std()), rel=1e-4)


def test_classes_are_no_targets_to_scale_and_an_autoencoder_has_none():
    assert target_moments(recipe()) == {}
    given = recipe(model=lambda: nn.Linear(6, 6), loss=lambda m, b: (m(b[0]) - b[0]).square().mean())
    assert target_moments(given) == {}
    assert same_training(standardised_targets()(given), given)


def test_a_loss_that_differentiates_its_inputs_can_be_looked_at():
    def penalised(model, batch):
        x = batch[0].requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return cross_entropy(model, batch) + slope.square().mean()

    given = recipe(loss=penalised)
    assert target_moments(given) == {}
    assert train(standardised_inputs()(given), steps=2).ended == "complete"


def test_measuring_leaves_the_callers_randomness_and_batches_alone():
    given = regression(*KINDS["tuple"], prepare=PREPARED["noisy"])
    state, before = torch.get_rng_state(), X.clone()
    target_moments(given)
    standardised_inputs()(given)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(X, before)
    assert not given.batches[0][0].requires_grad


# Order


@every_kind
def test_shuffling_keeps_every_sample_and_the_size_of_batches(pack, unpack):
    x = torch.arange(22.0)[:, None]
    given = recipe(batches=[pack(a, a[:, 0].long()) for a in x.split(8)])
    source = BatchSource(shuffled()(given))
    assert source.count() == 3
    epochs = [[unpack(batch) for batch in source.epoch(k)] for k in range(2)]
    for batches in epochs:
        assert [len(inputs) for inputs, _ in batches] == [8, 8, 6]
        assert all(torch.equal(inputs[:, 0].long(), targets) for inputs, targets in batches)
        assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(22))
    orders = [torch.cat([targets for _, targets in batches]).tolist() for batches in epochs]
    assert orders[0] != orders[1] != list(range(22))
    assert isinstance(next(iter(source.epoch(0))), type(given.batches[0]))


def test_shuffled_trainings_are_deterministic():
    treated = shuffled()(recipe())
    assert same_training(treated, treated)
    assert not same_training(treated, recipe())


def test_what_holds_no_tensor_cannot_be_shuffled():
    with pytest.raises(TypeError, match="differ in a str: expected tensors with one row a sample"):
        BatchSource(shuffled()(recipe(batches=["a", "b"]))).first(1)


@every_kind
def test_batches_in_order_are_told_from_shuffled_ones(pack, unpack):
    x, _ = data(256)
    y = (x[:, 0] > 0).long()
    in_order = y.argsort()
    assert not come_ordered([pack(a, b) for a, b in zip(x.split(16), y.split(16), strict=True)])
    assert come_ordered([pack(a, b) for a, b in zip(x[in_order].split(16), y[in_order].split(16), strict=True)])


@for_all(st.integers(0, 2**31), st.sampled_from([2, 8, 32]), st.booleans())
def test_random_batches_hardly_ever_look_ordered(seed, size, continuous):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(16 * size)) if continuous else rng.integers(0, 10, 16 * size)
    assert not come_ordered([(torch.zeros(size), part) for part in torch.tensor(y).float().split(size)])


@pytest.mark.parametrize("batches", [[], [(torch.zeros(4), torch.zeros(4))] * 8, ["text"] * 8, [torch.tensor(1.0)] * 8])
def test_what_has_no_order_has_none(batches):
    assert not come_ordered(batches)


def test_remedies_say_their_causes():
    assert standardised_inputs().causes == (Cause.INPUT_SCALE,)
    assert standardised_targets().causes == (Cause.TARGET_SCALE,)
    assert shuffled().causes == (Cause.BATCHING,)
