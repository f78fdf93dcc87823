"""Without its penalty a loss has the gradient of the data alone: an autograd twin decides."""

from collections import namedtuple

import pytest
import torch
from remedy_recipes import cross_entropy, data, mlp, recipe, same_training
from torch import nn
from torch.nn import functional

from graddoctor.remedies.penalty import no_penalty
from graddoctor.train import build_model, train

Out = namedtuple("Out", "logits hidden")  # noqa: PYI024 - the old spelling must work too
BATCH = data()


def l2(model):
    return sum(p.square().sum() for p in model.parameters())


PENALTIES = {
    "L2": lambda m: 3.0 * l2(m),
    "L1": lambda m: 0.5 * sum(p.abs().sum() for p in m.parameters()),
    "of one layer": lambda m: m[0].weight.norm(),
    "spectral": lambda m: torch.linalg.matrix_norm(m[2].weight, 2),
    "towards one": lambda m: sum((p - 1).square().mean() for p in m.parameters()),
    "none": lambda m: 0.0,
}


def gradients(given):
    torch.manual_seed(0)
    model = build_model(given)
    given.loss(model, BATCH).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())
def test_the_gradient_is_that_of_the_data_alone(penalty):
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + penalty(m))
    treated, alone = gradients(no_penalty()(given)), gradients(recipe())
    for mine, twin in zip(treated, alone, strict=True):
        assert torch.allclose(mine, twin, rtol=1e-4, atol=2e-6)


def test_the_value_is_that_of_the_data_and_of_weights_of_zero():
    for penalty, at_zero in ((l2, 0.0), (lambda m: l2(m) + 5, 5.0), (PENALTIES["towards one"], 6.0)):
        given = recipe(loss=lambda m, b, penalty=penalty: cross_entropy(m, b) + penalty(m))
        treated = no_penalty()(given)
        value = float(treated.loss(build_model(treated), BATCH).detach())
        assert value == pytest.approx(float(cross_entropy(build_model(recipe()), BATCH).detach()) + at_zero, rel=1e-5)


def test_a_penalty_that_is_infinite_at_zero_keeps_its_value_and_loses_its_gradient():
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + 1 / l2(m))
    treated = no_penalty()(given)
    value = treated.loss(build_model(treated), BATCH)
    assert float(value.detach()) == pytest.approx(float(given.loss(build_model(given), BATCH).detach()))
    for mine, twin in zip(gradients(treated), gradients(recipe()), strict=True):
        assert torch.allclose(mine, twin, rtol=1e-4, atol=2e-6)


OUTPUTS = {
    "tuple": (lambda z, h: (z, h), lambda o: o[0]),
    "dict": (lambda z, h: {"logits": z, "hidden": [h]}, lambda o: o["logits"]),
    "namedtuple": (Out, lambda o: o.logits),
}


@pytest.mark.parametrize(("pack", "unpack"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_outputs_may_be_of_any_kind(pack, unpack):
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            z = self.net(x)
            return pack(z, z * 2)

    def loss(model, batch):
        return functional.cross_entropy(unpack(model(batch[0])), batch[1])

    given = recipe(model=Packing, loss=lambda m, b: loss(m, b) + 3 * l2(m))
    twins = gradients(recipe(model=Packing, loss=loss))
    for mine, twin in zip(gradients(no_penalty()(given)), twins, strict=True):
        assert torch.allclose(mine, twin, rtol=1e-4, atol=2e-6)


def test_a_network_that_runs_twice_in_a_step():
    def twice(model, batch):
        return cross_entropy(model, batch) + (model(batch[0]) - model(-batch[0])).square().mean()

    given = recipe(loss=lambda m, b: twice(m, b) + l2(m))
    for mine, twin in zip(gradients(no_penalty()(given)), gradients(recipe(loss=twice)), strict=True):
        assert torch.allclose(mine, twin, rtol=1e-4, atol=2e-6)


def test_random_numbers_and_statistics_go_on_as_in_a_plain_run():
    def build():
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 2))

    given = recipe(model=build)
    treated = no_penalty()(given)
    outcomes = train(treated), train(given)
    for one, other in zip(*(o.model.state_dict().values() for o in outcomes), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_drowned_training_learns_and_its_weights_stay():
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + 4 * l2(m), epochs=6)
    kept = train(no_penalty()(given)).model.state_dict()
    for one, other in zip(kept.values(), train(recipe(epochs=6)).model.state_dict().values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)
    assert float(train(given).model[0].weight.detach().abs().max()) < 1e-2


def test_evaluation_sees_the_loss_as_it_is():
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + l2(m))
    treated = no_penalty()(given)
    model = build_model(treated).eval()
    assert torch.equal(treated.loss(model, BATCH), given.loss(build_model(given), BATCH))


def test_weights_are_put_back_also_after_an_error():
    failing = []

    def fails(model, batch):
        value = cross_entropy(model, batch) + l2(model)
        if failing:  # with the weights at zero
            raise ValueError("no")
        return value

    treated = no_penalty()(recipe(loss=fails))
    model = build_model(treated)
    failing.append(1)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="no"):
        treated.loss(model, BATCH)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    failing.clear()
    treated.loss(model, BATCH)


def test_the_same_remedy_may_be_used_again():
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + l2(m))
    treated = no_penalty()(given)
    assert same_training(treated, treated)
