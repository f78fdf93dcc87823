"""Nonlinearities are exchanged in every spelling, none but the right ones, and nothing else changes by a bit."""

import pytest
import torch
from remedy_recipes import Functional, Headed, data, mlp, outputs, recipe, same_training, sgd, surveyed
from torch import nn
from torch.nn import functional

from graddoctor.remedies.activation import bare_output, exchanged, sigmoid_output
from graddoctor.terms import Cause
from graddoctor.train import build_model


def leaky(x):
    return functional.leaky_relu(x, 0.1)


SPELLINGS = {
    "module": lambda: mlp(nn.ReLU),
    "in-place module": lambda: mlp(lambda: nn.ReLU(inplace=True)),
    "function": lambda: Functional(functional.relu),
    "torch function": lambda: Functional(torch.relu),
    "method": lambda: Functional(lambda x: x.relu()),
    "in-place method": lambda: Functional(lambda x: x.relu_()),
    "result dropped": lambda: Functional(lambda x: (x.relu_(), x)[1]),
}


@pytest.mark.parametrize("build", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_is_exchanged(build):
    given = recipe(model=build)
    treated = exchanged({"relu"}, surveyed(given))(given)
    layers = [m for m in build_model(given).modules() if isinstance(m, nn.Linear)]
    x = data()[0]
    for layer in layers[:-1]:
        x = leaky(layer(x))
    assert torch.equal(outputs(treated), layers[-1](x))
    assert not torch.equal(outputs(treated), outputs(given))


@pytest.mark.parametrize("build", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_an_exchange_for_the_same_function_changes_no_bit_of_a_training(build):
    given = recipe(model=build)
    treated = exchanged({"relu"}, surveyed(given), torch.relu)(given)
    assert torch.equal(outputs(treated), outputs(given))
    assert same_training(treated, given)


def test_kinds_that_do_not_occur_change_no_bit_of_a_training():
    given = recipe(model=lambda: mlp(nn.GELU))
    assert same_training(exchanged({"relu", "tanh"}, surveyed(given))(given), given)


def test_only_the_kinds_asked_for_are_exchanged():
    given = recipe(model=lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh()))
    treated = exchanged({"relu"}, surveyed(given))(given)
    first, _, second, _ = build_model(given)
    assert torch.equal(outputs(treated), torch.tanh(second(leaky(first(data()[0])))))


def test_the_activation_on_the_output_stays():
    given = recipe(model=lambda: Headed(torch.tanh))
    treated = exchanged({"tanh"}, surveyed(given))(given)
    first, _, second = build_model(given).body
    assert torch.equal(outputs(treated), torch.tanh(second(leaky(first(data()[0])))))


def test_attention_stays_and_a_softmax_over_features_does_not():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x):
            x = torch.softmax(self.inner(x), -1)
            scores = torch.softmax(x[:, :, None] * x[:, None, :], -1)
            return (scores @ x[:, :, None]).squeeze(-1)

    given = recipe(model=Attentive)
    treated = exchanged({"softmax", "attention"}, surveyed(given), lambda z: z * 0)(given)
    assert float(outputs(treated).detach().abs().max()) == 0  # the first, on features
    kept = exchanged({"softmax"}, surveyed(given), lambda z: torch.softmax(z, -1))(given)
    assert torch.equal(outputs(kept), outputs(given))


def test_an_in_place_activation_is_written_where_it_was():
    class PreActivated(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branch = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            x = self.stem(x)
            return x + self.branch(functional.relu(x, inplace=True))  # the skip carries what was rectified

    given = recipe(model=PreActivated)
    treated = exchanged({"relu"}, surveyed(given))(given)
    model = build_model(given)
    hidden = leaky(model.stem(data()[0]))
    assert torch.equal(outputs(treated), hidden + model.branch(hidden))


def test_the_loss_is_left_alone():
    given = recipe(loss=lambda m, b: functional.nll_loss(torch.log_softmax(m(b[0]), 1), b[1]))
    treated = exchanged({"log_softmax"}, surveyed(given))(given)
    assert same_training(treated, given)


def test_a_seeded_builder_is_still_given_its_seed():
    seeds = []

    def build(seed):
        seeds.append(seed)
        return mlp()

    given = recipe(model=build)
    treated = exchanged({"relu"}, surveyed(given))(given)
    seeds.clear()
    build_model(treated.with_(seed=17))
    assert seeds == [17]


ENDS = {
    "softmax": (lambda z: torch.softmax(z, 1), lambda z: z),
    "module": (nn.Softmax(1), lambda z: z),
    "in place": (lambda z: z.relu_(), lambda z: z),
    "reshaped": (lambda z: torch.sigmoid(z).view(-1, 2), lambda z: z),
    "scaled": (lambda z: 2 * torch.sigmoid(z) - 1, lambda z: 2 * z - 1),
    "scaled in place": (lambda z: functional.softplus(z).mul_(2), lambda z: 2 * z),
    "after another": (lambda z: torch.relu(torch.tanh(z)), torch.tanh),
}


@pytest.mark.parametrize(("end", "raw"), ENDS.values(), ids=ENDS.keys())
def test_the_activation_comes_off_the_output(end, raw):
    given = recipe(model=lambda: Headed(end))
    treated = bare_output()(given)
    body = build_model(given).body(data()[0])
    assert torch.equal(outputs(treated), raw(body))
    assert torch.equal(outputs(sigmoid_output()(given)), torch.sigmoid(raw(body)))


@pytest.mark.parametrize(
    "build",
    [mlp, lambda: Headed(lambda z: z), lambda: Headed(lambda z: z - z.mean()), lambda: Headed(nn.LayerNorm(2))],
)
@pytest.mark.parametrize("remedy", [bare_output(), sigmoid_output()])
def test_without_an_activation_on_the_output_no_bit_changes(build, remedy):
    given = recipe(model=build)
    assert torch.equal(outputs(remedy(given)), outputs(given))
    assert same_training(remedy(given), given)


def test_outputs_that_are_no_tensor_stay():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x):
            return {"p": torch.softmax(self.layer(x), 1)}

    given = recipe(model=Two, loss=lambda m, b: functional.nll_loss(m(b[0])["p"].log(), b[1]))
    assert same_training(bare_output()(given), given)


def test_gradients_reach_what_is_behind_a_saturated_output():
    given = recipe(model=lambda: Headed(lambda z: torch.sigmoid(100 * z + 1e4)), optimizer=sgd)
    for make, moves in ((lambda r: r, False), (bare_output(), True)):
        treated = make(given)
        model = build_model(treated)
        treated.loss(model, (data()[0], data()[1])).backward()
        assert bool(model.body[0].weight.grad.abs().max() > 0) is moves


def test_remedies_say_what_they_are():
    seen = surveyed(recipe())
    assert exchanged({"tanh", "relu"}, seen).name == "leaky ReLU in place of relu, tanh"
    assert exchanged({"relu"}, seen).causes == (Cause.ACTIVATION,)
    assert bare_output().causes == sigmoid_output().causes == (Cause.OUTPUT_ACTIVATION,)
