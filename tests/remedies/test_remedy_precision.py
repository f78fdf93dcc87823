"""Everything in float32, also what is cast by hand, in custom functions and on the way back; nothing else changes."""

import pytest
import torch
from remedy_recipes import cross_entropy, data, mlp, pairs, recipe, same_training
from torch import nn
from torch.nn import functional

from graddoctor.remedies.precision import LOW, float32, uses_low_precision
from graddoctor.train import BatchSource, build_model, train


class Halved(torch.autograd.Function):
    """Passes through 16 bits on the way there."""

    @staticmethod
    def forward(ctx, x):
        return x.half().float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class HalvedBack(torch.autograd.Function):
    """Passes through 16 bits on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(torch.float16).float()


class Casting(nn.Module):
    def __init__(self, cast):
        super().__init__()
        self.net, self.cast = mlp(), cast

    def forward(self, x):
        return self.cast(self.net(x))


def autocasting(x):
    with torch.autocast("cpu", torch.bfloat16):
        return (x @ torch.eye(2)).float()


CASTS = {
    "half": lambda z: z.half().float(),
    "bfloat16": lambda z: z.bfloat16().float(),
    "to": lambda z: z.to(torch.float16).to(torch.float32),
    "to, by keyword": lambda z: z.to(dtype=torch.bfloat16).float(),
    "type": lambda z: z.type(torch.float16).type(torch.float32),
    "like another": lambda z: z.to(torch.zeros(1, dtype=torch.float16)).float(),
    "custom function": Halved.apply,
    "custom function, backward": HalvedBack.apply,
    "autocast inside": autocasting,
}
NONE = {"autocast inside": lambda z: z @ torch.eye(2)}


def casting(cast):
    return recipe(model=lambda: Casting(cast))


def low(given):
    return uses_low_precision(given, build_model(given), BatchSource(given).first(1)[0])


@pytest.mark.parametrize("name", CASTS.keys())
def test_casts_are_undone_both_ways(name):
    given = casting(CASTS[name])
    plain = casting(NONE.get(name, lambda z: z))
    treated = float32()(given)
    assert low(given)
    assert train(treated, around=float32().around).losses.tolist() == train(plain).losses.tolist()
    assert train(given).losses.tolist() != train(plain).losses.tolist()


WAYS = {
    "autocast of the recipe": recipe(precision=torch.bfloat16),
    "weights": recipe(
        model=lambda: mlp().bfloat16(), loss=lambda m, b: functional.cross_entropy(m(b[0].bfloat16()).float(), b[1])
    ),
    "weights and data": recipe(
        model=lambda: mlp().bfloat16(),
        batches=lambda: [(x.bfloat16(), y) for x, y in pairs()],
        loss=lambda m, b: functional.cross_entropy(m(b[0]).float(), b[1]),
    ),
    "the loss": recipe(loss=lambda m, b: functional.cross_entropy(m(b[0]).half().float(), b[1])),
}


@pytest.mark.parametrize("name", WAYS.keys())
def test_low_precision_is_seen_and_undone_wherever_it_is(name):
    given = WAYS[name]
    treated = float32()(given)
    assert low(given)
    with float32().around():
        model = build_model(treated)
        assert not low(treated)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    outcome = train(treated, around=float32().around)
    assert {p.dtype for p in outcome.model.parameters()} == {torch.float32}
    if name in {"autocast of the recipe", "the loss"}:
        assert outcome.losses.tolist() == train(recipe()).losses.tolist()
    else:  # the data keep what the cast to 16 bits left of them
        assert outcome.losses == pytest.approx(train(recipe()).losses, rel=0.02)


def test_a_float32_training_does_not_change_by_a_bit():
    given = recipe()
    assert not low(given)
    assert same_training(float32()(given), given)
    assert train(float32()(given), around=float32().around).losses.tolist() == train(given).losses.tolist()


def test_a_float64_training_is_not_narrowed():
    given = recipe(model=lambda: mlp().double(), loss=lambda m, b: cross_entropy(m, (b[0].double(), b[1])))
    assert not low(given)
    assert same_training(float32()(given), given)


def test_underflow_goes_away():
    class Tiny(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            return (gradient * 1e-8).half().float() * 1e8

    given = casting(Tiny.apply)
    stuck = train(given).model.state_dict()
    assert torch.equal(stuck["net.0.weight"], build_model(given).state_dict()["net.0.weight"])
    moved = train(float32()(given), around=float32().around).model.state_dict()
    assert not torch.equal(moved["net.0.weight"], stuck["net.0.weight"])


def test_looking_for_low_precision_leaves_nothing_behind():
    given = recipe(precision=torch.bfloat16)
    model = build_model(given)
    state = torch.get_rng_state()
    assert uses_low_precision(given, model, (data()[0], data()[1]))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_a_loss_without_gradient_is_looked_at_too():
    given = recipe(loss=lambda m, b: m(b[0]).detach().half().float().mean())
    assert low(given)
    assert not low(given.with_(loss=lambda m, b: 3.0))


def test_the_low_types():
    assert {torch.float16, torch.bfloat16} == LOW
