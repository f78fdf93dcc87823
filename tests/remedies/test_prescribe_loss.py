"""A loss without its penalty, and on logits: the cure where that is the fault, prescribed nowhere else."""

import copy

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import strategies as st
from pasted import assert_same_when_pasted
from remedy_recipes import cross_entropy, data, mlp, recipe
from somebodys_loop import plain_loop
from torch import nn
from torch.nn import functional

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.logits import on_logits
from graddoctor.remedies.penalty import unpenalised
from graddoctor.remedies.plain.logits import loss_on_logits
from graddoctor.remedies.plain.penalty import unpenalised_loss
from graddoctor.terms import Cause
from graddoctor.train import build_model

X, Y = data()
BATCH = (X, Y)


def seeded_mlp():
    torch.manual_seed(0)
    return mlp(nn.Tanh)


def l2(model):
    return sum(p.square().sum() for p in model.parameters())


def drowned(model, batch):
    return cross_entropy(model, batch) + 4 * l2(model)


def loss_at_end(model):
    return float(cross_entropy(model.eval(), BATCH).detach())


# Penalty


def test_a_loss_drowned_in_its_penalty_is_cured_in_anybodys_loop():
    given = recipe(
        model=seeded_mlp, loss=drowned, epochs=40, optimizer=lambda m: torch.optim.Adam(m.parameters(), 0.01)
    )
    remedy = unpenalised(Facts(given))
    assert remedy.causes == (Cause.WEIGHT_DECAY,)
    assert loss_at_end(plain_loop(given)[1]) > 0.6
    assert loss_at_end(plain_loop(remedy(given))[1]) < 0.2


class Tied(nn.Module):
    """Its loss multiplies features with the embedding, outside of forward."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.table = nn.Parameter(torch.randn(2, 8))

    def forward(self, x):
        return self.body(x)


UNPENALISED = {
    "none": recipe(),
    "a penalty on outputs": recipe(loss=lambda m, b: cross_entropy(m, b) + m(b[0]).square().mean()),
    "a weight used with the batch": recipe(
        model=Tied, loss=lambda m, b: functional.cross_entropy(m(b[0]) @ m.table.T, b[1])
    ),
    "a constant": recipe(loss=lambda m, b: cross_entropy(m, b) + len(list(m.parameters()))),
    "a weight without gradient": recipe(loss=lambda m, b: cross_entropy(m, b) + l2(m).detach()),
    "a factor of zero": recipe(loss=lambda m, b: cross_entropy(m, b) + 0 * l2(m)),
}


@pytest.mark.parametrize("given", UNPENALISED.values(), ids=UNPENALISED.keys())
def test_a_loss_without_a_penalty_is_left_alone(given):
    assert unpenalised(Facts(given)) is None


def test_a_penalty_with_no_value_at_zero_keeps_its_value():
    given = recipe(loss=lambda m, b: cross_entropy(m, b) + 1 / l2(m))
    assert unpenalised(Facts(given)).edits[0].arguments == {"keep_value": True}
    assert unpenalised(Facts(recipe(loss=drowned))).edits[0].arguments == {}


class Auxiliary(nn.Module):
    """Leaves a second loss behind, as mixtures of experts do, and counts its calls."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.calls = nn.Sequential(nn.Linear(6, 8), nn.LSTM(8, 2)), 0

    def forward(self, x):
        hidden, _ = self.body(x)
        self.calls, self.auxiliary = self.calls + 1, hidden.square().mean()
        return hidden


def auxiliary_loss(model, batch):
    return cross_entropy(model, batch) + model.auxiliary


def gradients(loss, build):
    model = build()
    loss(model, BATCH).backward()
    return [p.grad for p in model.parameters()]


def test_what_forward_leaves_behind_keeps_its_gradient():
    penalised = lambda m, b: auxiliary_loss(m, b) + 3 * l2(m)  # noqa: E731
    treated = gradients(lambda m, b: unpenalised_loss(m, b, penalised), Auxiliary)
    assert all(torch.equal(a, b) for a, b in zip(treated, gradients(auxiliary_loss, Auxiliary), strict=True))


@for_all(st.integers(0, 2**31), st.booleans())
def test_a_loss_without_a_penalty_is_the_same_to_the_last_bit(seed, keep):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    twin = copy.deepcopy(model)
    values = []
    for net, loss in (
        (model, cross_entropy),
        (twin, lambda m, b: unpenalised_loss(m, b, cross_entropy, keep_value=keep)),
    ):
        torch.manual_seed(seed)
        values.append(loss(net, BATCH))
        values[-1].backward()
    assert torch.equal(*(value.detach() for value in values))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers(), strict=True))


def test_parameters_are_the_very_same_afterwards_and_tied_ones_tied():
    model = mlp()
    model[4].weight = nn.Parameter(torch.randn(2, 16))
    model.add_module("5", nn.Linear(2, 2))
    model[2].weight = model[0].weight = nn.Parameter(torch.randn(16, 16))
    before = {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)}
    unpenalised_loss(model, (torch.randn(4, 16), torch.zeros(4).long()), drowned)
    assert {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)} == before


# Logits


def twice_softmax(model, batch):
    return functional.cross_entropy(torch.softmax(model(batch[0]), dim=1), batch[1])


def log_of_softmax(model, batch):
    shares = (1000 * model(batch[0])).softmax(-1)
    return -shares.log()[torch.arange(len(batch[1])), batch[1]].mean()


def twice_sigmoid(model, batch):
    return functional.binary_cross_entropy_with_logits(model(batch[0])[:, 0].sigmoid(), batch[1].float())


def likelihood_of_shares(model, batch):
    return functional.nll_loss(functional.softmax(model(batch[0]), 1), batch[1])


def saturated(model, batch):
    return functional.binary_cross_entropy(torch.sigmoid(1000 * model(batch[0])[:, 0]), batch[1].float())


def on_1000(model, batch):
    return functional.cross_entropy(1000 * model(batch[0]), batch[1])


def binary(factor):
    return lambda m, b: functional.binary_cross_entropy_with_logits(factor * m(b[0])[:, 0], b[1].float())


FAULTS = {
    "cross entropy of a softmax": (twice_softmax, cross_entropy),
    "log of a softmax": (log_of_softmax, on_1000),
    "logistic loss of a sigmoid": (twice_sigmoid, binary(1)),
    "likelihood of shares": (likelihood_of_shares, cross_entropy),
    "cross entropy of a saturated sigmoid": (saturated, binary(1000)),
}


@pytest.mark.parametrize(("fault", "meant"), FAULTS.values(), ids=FAULTS.keys())
def test_losses_are_computed_on_logits(fault, meant):
    given = recipe(model=seeded_mlp, loss=fault)
    remedy = on_logits(Facts(given))
    assert remedy.causes == (Cause.LOSS,)
    assert "test_prescribe_loss.py:" in remedy.edits[0].note
    mine, twin = gradients(remedy(given).loss, seeded_mlp), gradients(meant, seeded_mlp)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(mine, twin, strict=True))
    assert_same_when_pasted(given, remedy)


def test_a_double_softmax_is_cured_in_anybodys_loop():
    given = recipe(
        model=seeded_mlp, loss=twice_softmax, epochs=40, optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.3)
    )
    learned, cured = (loss_at_end(plain_loop(r)[1]) for r in (given, on_logits(Facts(given))(given)))
    assert cured < 0.5 * learned


def test_a_softmax_at_the_end_of_the_network_counts_and_stays():
    def build():
        return nn.Sequential(seeded_mlp(), nn.Softmax(dim=1))

    given = recipe(model=build)
    treated = on_logits(Facts(given))(given)
    assert torch.allclose(build_model(treated)(X).sum(1), torch.ones(len(X)))
    mine, twin = gradients(treated.loss, build), gradients(cross_entropy, seeded_mlp)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(mine, twin, strict=True))


SOUND = {
    "logits": cross_entropy,
    "log of a softmax that is safe": lambda m, b: functional.nll_loss(m(b[0]).softmax(1).log(), b[1]),
    "shares in another place": lambda m, b: cross_entropy(m, b) + m(b[0]).softmax(1).square().mean(),
    "a softmax over samples": lambda m, b: functional.cross_entropy(m(b[0]).softmax(0), b[1]),
    "shares that were changed": lambda m, b: functional.cross_entropy(m(b[0]).softmax(1) * 3, b[1]),
}


@pytest.mark.parametrize("loss", SOUND.values(), ids=SOUND.keys())
def test_other_losses_are_left_alone_to_the_last_bit(loss):
    given = recipe(model=seeded_mlp, loss=loss)
    assert on_logits(Facts(given)) is None
    if loss is not SOUND["log of a softmax that is safe"]:
        mine = gradients(lambda m, b: loss_on_logits(m, b, loss), seeded_mlp)
        assert all(torch.equal(a, b) for a, b in zip(mine, gradients(loss, seeded_mlp), strict=True))


def test_what_is_pasted_trains_alike_without_its_penalty():
    for loss in (drowned, lambda m, b: cross_entropy(m, b) + 1 / l2(m)):
        given = recipe(model=seeded_mlp, loss=loss)
        assert_same_when_pasted(given, unpenalised(Facts(given)))
