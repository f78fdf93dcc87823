"""What was cut off is attached again; what was whole stays as it is to the last bit."""

import pytest
import torch
from remedy_recipes import cross_entropy, data, mlp, recipe, same_training, sgd
from torch import nn

from graddoctor.remedies.graph import attached, unfrozen, unhooked
from graddoctor.terms import Cause
from graddoctor.train import build_model, build_optimizer, train

BATCH = data()


class Cut(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.early, self.late, self.cut = nn.Linear(6, 8), nn.Linear(8, 2), cut

    def forward(self, x):
        return self.late(self.cut(torch.tanh(self.early(x))))


def without_gradient(z):
    with torch.no_grad():
        return z * 1


def switched_off(z):
    torch.set_grad_enabled(False)
    z = z * 1
    torch.set_grad_enabled(True)
    return z


@torch.no_grad()
def decorated(z):
    return z * 1


CUTS = {
    "detach": lambda z: z.detach(),
    "torch.detach": torch.detach,
    "data": lambda z: z.data,
    "no_grad": without_gradient,
    "set_grad_enabled": switched_off,
    "decorator": decorated,
}


def early_gradient(given):
    model = build_model(given)
    given.loss(model, BATCH).backward()
    return model.early.weight.grad


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_what_was_cut_off_is_attached(cut):
    given = recipe(model=lambda: Cut(cut))
    assert early_gradient(given) is None
    assert torch.equal(early_gradient(attached()(given)), early_gradient(recipe(model=lambda: Cut(lambda z: z * 1))))


def test_gradients_are_recorded_as_before_afterwards():
    given = attached()(recipe(model=lambda: Cut(without_gradient)))
    given.loss(build_model(given), BATCH)
    assert torch.is_grad_enabled()
    assert not BATCH[0].detach().requires_grad
    with torch.no_grad():
        assert not (build_model(given).early.weight * 2).requires_grad


def frozen():
    model = mlp()
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "optimizer", [sgd, lambda m: torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1)]
)
def test_frozen_parameters_are_trained(optimizer):
    given = recipe(model=frozen, optimizer=optimizer)
    treated = unfrozen()(given)
    model = build_model(treated)
    held = [p for g in build_optimizer(treated, model).param_groups for p in g["params"]]
    assert all(p.requires_grad for p in model.parameters())
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    trained = train(treated).model.state_dict()
    assert all(
        torch.equal(a, b) for a, b in zip(trained.values(), train(recipe()).model.state_dict().values(), strict=True)
    )


def test_whole_numbers_are_not_unfrozen():
    def build():
        model = mlp()
        model.count = nn.Parameter(torch.zeros(2, dtype=torch.long), requires_grad=False)
        return model

    assert not build_model(unfrozen()(recipe(model=build))).count.requires_grad


class HookedInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        y = self.net(x)
        if y.requires_grad:
            handle = y.register_hook(lambda g: g * 0)
            assert handle is not None

        return y


def hooked():
    model = mlp()
    for parameter in model.parameters():
        parameter.register_hook(lambda g: g * 1e-6)
    return model


def test_hooks_on_parameters_are_taken_off():
    assert not same_training(recipe(model=hooked), recipe())
    assert same_training(unhooked()(recipe(model=hooked)), recipe())


def test_hooks_on_tensors_are_not_put_on():
    plain = train(recipe())
    assert train(recipe(model=HookedInside)).losses.tolist() != plain.losses.tolist()
    assert train(unhooked()(recipe(model=HookedInside))).losses.tolist() == plain.losses.tolist()


def test_a_hook_that_was_not_put_on_can_be_removed():
    def removes(model, batch):
        value = cross_entropy(model, batch)
        value.register_hook(lambda g: g * 0).remove()
        return value

    assert same_training(unhooked()(recipe(loss=removes)), recipe())


@pytest.mark.parametrize("remedy", [attached(), unfrozen(), unhooked()])
def test_what_is_whole_is_trained_bit_by_bit_as_before(remedy):
    given = recipe(
        model=lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    )
    assert same_training(remedy(given), given)


def test_remedies_say_their_causes():
    assert attached().causes == unfrozen().causes == (Cause.GRAPH,)
    assert unhooked().causes == (Cause.CLIPPING,)
