"""Remedies of the optimizer change what they say and nothing else, for every kind of optimizer."""

import pytest
import torch
from remedy_recipes import mlp, recipe, same_training, sgd
from torch import nn

from graddoctor.remedies.clipping import clipped, no_clipping
from graddoctor.remedies.decay import no_weight_decay
from graddoctor.remedies.optimizer import (
    adam,
    equal_rates,
    every_parameter,
    learning_rate,
    ordinary_epsilon,
    ordinary_momentum,
)
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.schedule import constant_rate
from graddoctor.terms import Cause
from graddoctor.train import Observer, build_model, build_optimizer, train


class Twice(torch.optim.SGD):
    """A subclass whose step calls the one it inherits."""

    def step(self, closure=None):
        return super().step(closure)


class LookAhead(torch.optim.Adam):
    def step(self, closure=None):
        super().step(closure)
        super().step(closure)


def final(given, **options):
    return train(given, **options).model.state_dict()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


BUILDERS = {
    "sgd": lambda m, lr: sgd(m, lr, momentum=0.9),
    "subclass": lambda m, lr: Twice(m.parameters(), lr=lr),
    "steps twice": lambda m, lr: LookAhead(m.parameters(), lr=lr),
    "groups": lambda m, lr: torch.optim.SGD(
        [{"params": m[0].parameters(), "lr": lr}, {"params": m[2:].parameters(), "lr": lr / 2}]
    ),
    "fused": lambda m, lr: torch.optim.AdamW(m.parameters(), lr=lr, fused=True),
    "tensor rate": lambda m, lr: torch.optim.Adam(m.parameters(), lr=torch.tensor(lr)),
}
SCHEDULES = {
    "none": None,
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "sets the rate as it likes": lambda o, steps: torch.optim.lr_scheduler.OneCycleLR(o, 0.125, total_steps=steps),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
def test_a_rate_four_times_as_high_is_the_rate_written_so(build):
    given = recipe(optimizer=lambda m: build(m, 0.0625))
    written = recipe(optimizer=lambda m: build(m, 0.25))
    assert same(final(learning_rate(4.0)(given)), final(written))
    assert same(final(learning_rate(4.0)(learning_rate(0.25)(given))), final(given))
    assert not same(final(given), final(written))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
def test_a_factor_of_one_changes_no_bit(build, schedule):
    given = recipe(optimizer=lambda m: build(m, 0.1), scheduler=schedule)
    assert same_training(learning_rate(1.0)(given), given)


def test_the_rate_is_scaled_behind_the_scheduler_and_put_back():
    def schedule(optimizer, steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.125, total_steps=steps, cycle_momentum=False)

    def scheduled(optimizer, steps):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.25, total_steps=steps, cycle_momentum=False)

    seen = []

    class Rates(Observer):
        def after_step(self, step, model, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    given = recipe(scheduler=schedule)
    assert same(final(learning_rate(2.0)(given), observer=Rates()), final(recipe(scheduler=scheduled)))
    treated, seen = seen, []
    train(given, observer=Rates())
    assert treated == seen


def test_one_rate_gives_every_group_the_largest():
    given = recipe(optimizer=lambda m: BUILDERS["groups"](m, 0.1))
    treated = equal_rates(2.0)(given)
    optimizer = build_optimizer(treated, build_model(treated))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert equal_rates(2.0).rate == 2.0


def test_one_rate_with_equal_rates_changes_no_bit():
    given = recipe(scheduler=SCHEDULES["step"])
    assert same_training(equal_rates(1.0)(given), given)


def groups(remedy, build):
    given = remedy(recipe(optimizer=lambda m: build(m.parameters())))
    return build_optimizer(given, build_model(given)).param_groups


def test_high_momentum_comes_down_and_ordinary_momentum_stays():
    assert groups(ordinary_momentum(), lambda p: torch.optim.SGD(p, 0.1, momentum=0.999))[0]["momentum"] == 0.9
    assert groups(ordinary_momentum(), lambda p: torch.optim.SGD(p, 0.1, momentum=0.5))[0]["momentum"] == 0.5
    assert groups(ordinary_momentum(), lambda p: torch.optim.Adam(p, betas=(0.99, 0.9)))[0]["betas"] == (0.9, 0.9)
    assert groups(ordinary_momentum(), lambda p: torch.optim.Adam(p, betas=(0.5, 0.9)))[0]["betas"] == (0.5, 0.9)
    assert groups(ordinary_momentum(), lambda p: torch.optim.RMSprop(p, momentum=0.99))[0]["momentum"] == 0.9


def test_optimizers_with_three_betas_are_treated_too():
    def build(parameters):
        optimizer = torch.optim.SGD(parameters, 0.1)
        optimizer.param_groups[0]["betas"] = (0.99, 0.92, 0.999)
        return optimizer

    assert groups(ordinary_momentum(), build)[0]["betas"] == (0.9, 0.92, 0.999)


def test_a_loud_epsilon_comes_down():
    assert groups(ordinary_epsilon(), lambda p: torch.optim.Adam(p, eps=1.0))[0]["eps"] == 1e-8
    assert groups(ordinary_epsilon(), torch.optim.Adagrad)[0]["eps"] == 1e-10
    assert groups(ordinary_epsilon(), torch.optim.Adafactor)[0]["eps"] == (None, 1e-3)  # a pair that means other things


def test_weight_decay_is_lifted_from_every_group():
    given = recipe(
        optimizer=lambda m: torch.optim.AdamW(
            [{"params": m[0].parameters(), "weight_decay": 3.0}, {"params": m[2:].parameters()}]
        )
    )
    treated = no_weight_decay()(given)
    assert [g["weight_decay"] for g in build_optimizer(treated, build_model(treated)).param_groups] == [0.0, 0.0]


ADDED_TO = {
    "sgd": lambda m: torch.optim.SGD(m[0].parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
    "names": lambda m: torch.optim.SGD(m[0].named_parameters(prefix="0"), lr=0.1, momentum=0.9, weight_decay=0.01),
}


@pytest.mark.parametrize("build", ADDED_TO.values(), ids=ADDED_TO.keys())
def test_every_trainable_parameter_is_given_to_the_optimizer_once(build):
    def frozen_last():
        model = mlp()
        model[4].bias.requires_grad_(False)
        return model

    given = recipe(model=frozen_last, optimizer=build)
    treated = every_parameter()(given)
    model = build_model(treated)
    optimizer = build_optimizer(treated, model)
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {g["momentum"] for g in optimizer.param_groups} == {0.9}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.01}
    start = {n: v.clone() for n, v in model.state_dict().items()}
    moved = {n for n, v in final(treated).items() if not torch.equal(v, start[n])}
    assert moved == set(start) - {"4.bias"}


@pytest.mark.parametrize("remedy", [every_parameter(), no_weight_decay(), ordinary_momentum(), ordinary_epsilon()])
def test_what_needs_no_change_is_trained_bit_by_bit_as_before(remedy):
    given = recipe(scheduler=SCHEDULES["step"])
    assert same_training(remedy(given), given)


def test_a_constant_rate_is_the_one_that_the_optimizer_was_built_with():
    given = recipe(scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1e-3))
    assert same_training(constant_rate()(given), recipe())


def test_adam_trains_the_same_parameters_and_no_others():
    given = recipe(optimizer=lambda m: sgd(m[4]), scheduler=SCHEDULES["step"])
    treated = adam(0.01)(given)
    model = build_model(treated)
    optimizer = build_optimizer(treated, model)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[4].parameters()]
    assert treated.scheduler is None


def test_clips_are_lifted_and_put_on():
    given = recipe(clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1e-6))
    assert same_training(no_clipping()(given), recipe())
    norms = []

    class Norms(Observer):
        def before_update(self, step, model, optimizer):
            norms.append(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])))

    train(clipped(0.01)(given), observer=Norms())
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    assert same_training(clipped(1e9)(given), recipe())


def test_one_remedy_after_another():
    both = learning_rate(0.1).then(no_weight_decay()).then(learning_rate(0.5))
    assert both.name == "learning rate x 0.1, weight decay lifted, learning rate x 0.5"
    assert both.causes == (Cause.LEARNING_RATE, Cause.WEIGHT_DECAY)
    assert both.rate == pytest.approx(0.05)
    assert [part.name for part in both.parts] == both.name.split(", ")
    assert both.source == "Smith 2015"


def test_the_first_remedy_changes_first():
    order = []
    one, two = (Remedy(n, (Cause.LOSS,), lambda r, n=n: (order.append(n), r)[1], modules=(n, "x")) for n in "ab")
    given = recipe()
    assert one.then(two)(given) is given
    assert order == ["a", "b"]
    assert one.then(two).modules == ("a", "x", "b")
