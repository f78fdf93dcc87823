"""Which remedy is prescribed for what is computed in 16 bits, that it cures, and where there is nothing to cure."""

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import cross_entropy, data, pairs, recipe
from somebodys_loop import plain_loop
from torch import nn
from torch.nn import functional

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.precision import bfloat16_autocast, float32_throughout, loss_scaled, master_weights
from graddoctor.terms import Cause
from graddoctor.train import build_model, train

REMEDIES = {
    "float32": float32_throughout,
    "scaled": loss_scaled,
    "bfloat16": bfloat16_autocast,
    "masters": master_weights,
}
TINY, SMALL = 1e-9, 1e-6


class RoundsBack(torch.autograd.Function):
    """Passes through half precision on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


def same(x):
    return x


class Net(nn.Module):
    """Something is done to its answer."""

    def __init__(self, way=same, dtype=torch.float32, *, recurrent=False):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh()) if not recurrent else nn.RNN(6, 16)
        self.head, self.way, self.recurrent = nn.Linear(16, 2), way, recurrent
        self.to(dtype)

    def forward(self, x):
        features = self.body(x)
        return self.way(self.head(features[0] if self.recurrent else features))


def by_hand(x):
    return x.half().float()


def tiny_loss(model, batch):
    return TINY * cross_entropy(model, batch)


def low_weights(dtype, loss_factor=1.0):
    def loss(model, batch):
        answers = model(batch[0].to(dtype)).float()
        return loss_factor * functional.cross_entropy(answers, batch[1])

    return loss


def sgd(rate):
    return lambda model: torch.optim.SGD(model.parameters(), lr=rate)


FINE_STEPS = {"epochs": 20, "optimizer": sgd(2e-3)}
LARGE_STEPS = {"epochs": 25, "optimizer": sgd(0.3 / TINY)}


def build(**options):
    return lambda: Net(**options)


SICK = {
    "cast by hand": (
        recipe(model=build(way=by_hand), loss=tiny_loss, **LARGE_STEPS),
        {"float32", "scaled", "bfloat16"},
    ),
    "autocast": (
        recipe(model=build(), loss=tiny_loss, precision=torch.float16, **LARGE_STEPS),
        {"float32", "scaled", "bfloat16"},
    ),
    "a gradient cast by hand": (recipe(model=build(way=RoundsBack.apply), loss=tiny_loss, **LARGE_STEPS), {"scaled"}),
    "bfloat16 weights": (
        recipe(model=build(dtype=torch.bfloat16), loss=low_weights(torch.bfloat16), **FINE_STEPS),
        {"float32", "masters"},
    ),
    "float16 weights": (
        recipe(model=build(dtype=torch.float16), loss=low_weights(torch.float16, SMALL), epochs=20, optimizer=sgd(6e4)),
        {"float32", "scaled", "masters"},
    ),
}
PAIRS = [(name, remedy) for name, (_, remedies) in SICK.items() for remedy in REMEDIES if remedy in remedies]
HALF_A_CURE = ("float16 weights", "masters")  # the gradient still rounds to zero


def twin(given):
    """The same in float32, from the same start."""
    loss = (
        given.loss
        if given.loss is tiny_loss
        else low_weights(torch.float32, SMALL if given.name.startswith("float16") else 1)
    )
    dtype = next(build_model(given).parameters()).dtype
    return given.with_(model=lambda: Net(dtype=dtype).float(), loss=loss, precision=None)


def weights(model):
    return torch.cat([p.detach().float().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", SICK)
def test_what_is_prescribed(name):
    given, expected = SICK[name]
    found = {key: prescribe(Facts(given)) for key, prescribe in REMEDIES.items()}
    assert {key for key, remedy in found.items() if remedy} == expected
    assert all(remedy.causes == (Cause.PRECISION,) for remedy in found.values() if remedy)


@pytest.mark.parametrize(("name", "remedy"), [pair for pair in PAIRS if pair != HALF_A_CURE])
def test_it_cures_in_anybodys_loop(name, remedy):
    given = SICK[name][0].with_(name=name)
    treated = REMEDIES[remedy](Facts(given))(given)
    assert treated.precision is None
    _, model = plain_loop(treated)
    assert list(model.state_dict()) == list(Net().state_dict())
    end = weights(plain_loop(twin(given))[1])
    ill, well = (float((weights(net) - end).norm()) for net in (train(given).model, model))
    assert well < 0.1 * ill


@pytest.mark.parametrize(("name", "remedy"), PAIRS)
def test_what_is_pasted_trains_alike(name, remedy):
    given = SICK[name][0].with_(epochs=2)
    assert_same_when_pasted(given, REMEDIES[remedy](Facts(given)))


SOUND = {
    "float32": recipe(model=build()),
    "float64": recipe(model=build(dtype=torch.float64), loss=lambda m, b: cross_entropy(m, (b[0].double(), b[1]))),
    "16-bit data alone": recipe(
        model=build(),
        batches=lambda: [(x.half(), y) for x, y in pairs()],
        loss=lambda m, b: cross_entropy(m, (b[0].float(), b[1])),
    ),
}


@pytest.mark.parametrize("given", SOUND.values(), ids=SOUND.keys())
def test_nothing_is_prescribed_where_nothing_is_in_16_bits(given):
    assert [prescribe(Facts(given)) for prescribe in REMEDIES.values()] == [None] * 4


def test_a_float16_gradient_that_is_held_is_not_scaled():
    assert loss_scaled(Facts(recipe(model=build(), precision=torch.float16))) is None


def test_a_bfloat16_gradient_is_not_scaled_and_stays_bfloat16():
    given = recipe(model=build(), loss=tiny_loss, precision=torch.bfloat16)
    assert loss_scaled(Facts(given)) is None
    assert bfloat16_autocast(Facts(given)) is None


def test_the_scale_is_a_power_of_two_that_brings_the_gradient_up():
    given, _ = SICK["autocast"]
    scale = loss_scaled(Facts(given)).edits[-1].arguments["scale"]
    assert scale == 2.0 ** round(torch.tensor(scale).log2().item())
    assert 2.0**9 < scale * TINY < 2.0**14


def test_a_gradient_that_overflows_is_scaled_down():
    given = recipe(model=build(way=RoundsBack.apply), loss=lambda m, b: 1e7 * cross_entropy(m, b))
    assert loss_scaled(Facts(given)).edits[-1].arguments["scale"] < 2.0**-4


def test_recurrent_layers_are_given_their_casts_too():
    given = recipe(model=build(dtype=torch.bfloat16, recurrent=True), loss=low_weights(torch.bfloat16))
    treated = master_weights(Facts(given))(given)
    model, seen = build_model(treated), []
    model.body.register_forward_pre_hook(lambda m, _: seen.extend(w.dtype for w in m._flat_weights))
    treated.loss(model, data())
    assert set(seen) == {torch.bfloat16}
    assert all(a is b for a, b in zip(model.body.parameters(), model.body._flat_weights, strict=True))


class Cached(nn.Module):
    """Holds a weight where nobody looks."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2).bfloat16()
        self.held = [self.linear.weight]

    def forward(self, x):
        return functional.linear(x, self.held[0], self.linear.bias)


def test_weights_that_are_held_elsewhere_are_left_in_16_bits():
    given = recipe(model=Cached, loss=low_weights(torch.bfloat16))
    assert master_weights(Facts(given)) is None
    assert float32_throughout(Facts(given)) is not None


def test_float32_takes_no_more_than_is_needed():
    names = {
        name: [
            edit.function.__name__ if edit.function else edit.part for edit in float32_throughout(Facts(given)).edits
        ]
        for name, (given, expected) in SICK.items()
        if "float32" in expected
    }
    assert names == {
        "cast by hand": ["float32_loss"],
        "autocast": ["precision"],
        "bfloat16 weights": ["widen_weights", "float32_forward", "float32_loss"],
        "float16 weights": ["widen_weights", "float32_forward", "float32_loss"],
    }


def follows(model, batch):
    return cross_entropy(model, (batch[0].to(model.head.weight.dtype), batch[1]))


def test_a_loss_that_follows_the_weights_needs_only_them():
    given = recipe(model=build(dtype=torch.bfloat16), loss=follows)
    assert [edit.part for edit in float32_throughout(Facts(given)).edits] == ["model"]


@pytest.mark.parametrize("prescribe", REMEDIES.values(), ids=REMEDIES.keys())
def test_prescribing_leaves_randomness_and_the_network_alone(prescribe):
    given, _ = SICK["bfloat16 weights"]
    facts = Facts(given)
    before = [p.detach().clone() for p in facts.model.parameters()]
    state = torch.get_rng_state()
    prescribe(facts)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, facts.model.parameters(), strict=True))


def test_a_treated_network_answers_as_it_did():
    x = data()[0].bfloat16()
    given, _ = SICK["bfloat16 weights"]
    plain = build_model(given)
    assert torch.equal(build_model(master_weights(Facts(given))(given))(x), plain(x))
    wide = build_model(float32_throughout(Facts(given))(given))(x)
    assert wide.dtype == torch.float32
    assert torch.allclose(wide, plain(x).float(), rtol=0.1, atol=0.03)
