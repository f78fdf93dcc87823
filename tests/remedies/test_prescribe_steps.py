"""Remedies of optimizer, schedule, decay and clip: prescribed where they apply, and pasted as proven."""

import math

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import mlp, recipe, same_training, sgd
from torch import nn
from torch.nn import functional

from graddoctor.remedies.clipping import clip_lifted, clip_raised, clipping
from graddoctor.remedies.decay import decay_added, decay_lifted, decay_lowered, decay_off_biases
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.optimizer import epsilon, held, momentum, one_rate, optimizers, rate
from graddoctor.remedies.schedule import constant, cosine, warmed_up
from graddoctor.terms import Cause
from graddoctor.train import Observer, build_model, build_optimizer, train

STEPS = 8  # two epochs of four batches
LONG = 10  # epochs of a run that is long enough for a schedule
schedulers = torch.optim.lr_scheduler

SCHEDULES = {
    "none": (None, True),
    "step": (lambda o: schedulers.StepLR(o, 2, 0.5), True),
    "lambda": (lambda o: schedulers.LambdaLR(o, lambda step: 1 / (1 + step)), True),
    "cosine": (lambda o: schedulers.CosineAnnealingLR(o, STEPS), True),
    "plateau": (lambda o: schedulers.ReduceLROnPlateau(o, patience=1), True),
    "cosine to a floor": (lambda o: schedulers.CosineAnnealingLR(o, STEPS, eta_min=0.01), False),
    "one cycle": (lambda o, steps: schedulers.OneCycleLR(o, 0.2, total_steps=steps), False),
    "cyclic": (lambda o: schedulers.CyclicLR(o, 0.01, 0.2, step_size_up=3), False),
    "late to a floor": (
        lambda o: schedulers.SequentialLR(
            o, [schedulers.ConstantLR(o, 0.5, 3), schedulers.CosineAnnealingLR(o, 3, eta_min=0.02)], [5]
        ),
        False,
    ),
}


def facts(steps=STEPS, norms=(), **changes):
    return Facts(recipe(**changes), norms, steps)


def optimizer_of(remedy, given):
    treated = remedy(given.recipe)
    return build_optimizer(treated, build_model(treated))


class RatesInSteps(Observer):
    """The rate that each step is made with."""

    def __init__(self):
        self.seen = []

    def built(self, model, optimizer, steps):
        def watch(optimizer, *_):
            self.seen.append(optimizer.param_groups[0]["lr"])

        optimizer.register_step_pre_hook(watch)


def rates_of(given):
    watch = RatesInSteps()
    train(given, observer=watch)
    return watch.seen


@pytest.mark.parametrize(("schedule", "follows"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_the_rate_is_multiplied_whatever_the_schedule(schedule, follows):
    given = facts(scheduler=schedule, optimizer=lambda m: sgd(m, 0.1, momentum=0.5))
    remedy = rate(given, 0.1)
    assert remedy.rate == 0.1
    assert [edit.function.__name__ for edit in remedy.edits] == ["scale_rate" if follows else "scale_steps"]
    plain, treated = rates_of(given.recipe), rates_of(remedy(given.recipe))
    twice = remedy.then(rate(given, 5.0))
    if schedule is SCHEDULES["plateau"][0]:  # it follows the losses, which differ
        assert treated[0] == pytest.approx(0.1 * plain[0])
        return
    assert treated == pytest.approx([0.1 * r for r in plain])
    assert rates_of(twice(given.recipe)) == pytest.approx([0.5 * r for r in plain])
    assert_same_when_pasted(given.recipe, twice)


def test_one_rate_is_for_groups_that_differ():
    groups = facts(optimizer=lambda m: torch.optim.SGD([{"params": m[0].parameters(), "lr": 1.0}, *rest(m)], lr=0.1))
    remedy = one_rate(groups)
    assert {group["lr"] for group in optimizer_of(remedy, groups).param_groups} == {1.0}
    assert one_rate(facts()) is None
    assert_same_when_pasted(groups.recipe, remedy)


def rest(model):
    return [{"params": model[2:].parameters()}]


def test_momentum_is_added_at_the_same_effective_rate_and_lowered_where_it_is_high():
    plain = facts(optimizer=lambda m: sgd(m, 0.5))
    remedy = momentum(plain)
    group = optimizer_of(remedy, plain).param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.05, 0.9)
    assert Cause.OPTIMIZER in remedy.causes
    assert_same_when_pasted(plain.recipe, remedy)

    high = facts(optimizer=lambda m: sgd(m, 0.5, momentum=0.99))
    group = optimizer_of(momentum(high), high).param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.5, 0.9)
    assert momentum(high).causes == (Cause.MOMENTUM,)
    betas = facts(optimizer=lambda m: torch.optim.Adam(m.parameters(), betas=(0.99, 0.99)))
    assert optimizer_of(momentum(betas), betas).param_groups[0]["betas"] == (0.9, 0.99)

    assert momentum(facts(optimizer=lambda m: sgd(m, 0.5, momentum=0.5))) is None
    assert momentum(facts(optimizer=lambda m: torch.optim.Adam(m.parameters()))) is None
    assert momentum(facts(optimizer=lambda m: sgd(m, 0.5), scheduler=SCHEDULES["one cycle"][0])) is None


def test_epsilon_comes_down_where_it_is_loud():
    loud = facts(optimizer=lambda m: torch.optim.Adam(m.parameters(), eps=0.1))
    assert optimizer_of(epsilon(loud), loud).param_groups[0]["eps"] == 1e-8
    assert_same_when_pasted(loud.recipe, epsilon(loud))
    assert epsilon(facts(optimizer=lambda m: torch.optim.AdamW(m.parameters(), eps=1e-6))) is None
    assert epsilon(facts()) is None


def test_epsilon_comes_down_below_gradients_that_are_smaller_than_it():
    def quiet(model, batch):
        return 1e-10 * functional.cross_entropy(model(batch[0]), batch[1])

    given = facts(loss=quiet, optimizer=lambda m: torch.optim.Adam(m.parameters(), 1e-2), epochs=12)
    remedy = epsilon(given)
    lowered = remedy.edits[0].arguments["highest"]
    assert 1e-17 < lowered < 1e-13
    stuck, moving = (train(one).losses[-4:].mean() * 1e10 for one in (given.recipe, remedy(given.recipe)))
    assert moving < 0.9 * stuck
    assert epsilon(Facts(remedy(given.recipe))) is None


def grouped(model):
    groups = [
        {"params": model[0].parameters(), "lr": 0.01, "weight_decay": 0.0, "name": "stem"},
        {"params": model[2:].parameters(), "weight_decay": 1e-3, "name": "rest"},
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.995)


def test_other_optimizers_keep_groups_and_the_proportion_of_their_rates():
    given = facts(optimizer=grouped, scheduler=SCHEDULES["step"][0])
    remedies = {remedy.name: remedy for remedy in optimizers(given)}
    assert list(remedies) == ["Adam at 0.001", "AdamW at 0.001", "RMSprop at 0.001", "Adagrad at 0.01"]
    stem, others = optimizer_of(remedies["Adam at 0.001"], given).param_groups
    assert (stem["lr"], others["lr"]) == (1e-4, 1e-3)
    assert (stem["name"], others["name"]) == ("stem", "rest")
    assert (stem["weight_decay"], others["weight_decay"]) == (0.0, 1e-3)  # it means the same in both
    assert others["betas"] == (0.9, 0.999)
    stem, others = optimizer_of(remedies["AdamW at 0.001"], given).param_groups
    assert (stem["weight_decay"], others["weight_decay"]) == (0.0, 1e-2)  # decoupled: its own, and none where none was
    assert remedies["Adam at 0.001"](given.recipe).scheduler is given.recipe.scheduler
    for remedy in remedies.values():
        assert_same_when_pasted(given.recipe, remedy)


def test_sgd_is_offered_to_those_who_have_another():
    given = facts(optimizer=lambda m: torch.optim.AdamW(m.parameters(), maximize=True))
    names = [remedy.name for remedy in optimizers(given)]
    assert "SGD with Nesterov momentum at 0.01" in names
    assert not any(name.startswith("AdamW") for name in names)
    for remedy in optimizers(given):
        assert optimizer_of(remedy, given).param_groups[0]["maximize"]
    assert_same_when_pasted(given.recipe, next(r for r in optimizers(given) if r.name.startswith("SGD")))


def test_a_schedule_of_rates_of_its_own_goes_with_the_optimizer_that_it_was_made_for():
    given = facts(scheduler=SCHEDULES["one cycle"][0])
    remedy = optimizers(given)[0]
    assert remedy(given.recipe).scheduler is None
    assert_same_when_pasted(given.recipe, remedy)


def test_hooks_on_an_optimizer_are_not_lost():
    def hooked(model):
        optimizer = sgd(model)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer

    assert optimizers(facts(optimizer=hooked)) == []


def test_what_the_optimizer_was_not_given_it_is_given():
    def forgetful(model):
        groups = [
            {"params": [p for p in model[:4].parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in model[:4].parameters() if p.ndim == 1]},
        ]
        return torch.optim.SGD(groups, lr=0.1)

    given = facts(optimizer=forgetful)
    remedy = held(given)
    assert remedy.modules == ("4",)
    matrices, vectors = optimizer_of(remedy, given).param_groups
    assert [p.ndim for p in matrices["params"]] == [2, 2, 2]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]
    assert held(facts()) is None
    assert_same_when_pasted(given.recipe, remedy)


@pytest.mark.parametrize("schedule", [None, SCHEDULES["step"][0], SCHEDULES["one cycle"][0], SCHEDULES["cosine"][0]])
def test_a_warm_up_stands_beside_any_schedule(schedule):
    given = facts(40, epochs=LONG, scheduler=schedule and (lambda o: schedulers.ExponentialLR(o, 0.9)))
    remedy = warmed_up(given)
    assert remedy.name == "warm-up of 4 steps"
    plain, treated = rates_of(given.recipe), rates_of(remedy(given.recipe))
    assert treated == pytest.approx([r * min(1, (k + 1) / 4) for k, r in enumerate(plain)])
    assert_same_when_pasted(given.recipe, remedy)
    both = remedy.then(rate(given, 0.5))
    assert rates_of(both(given.recipe)) == pytest.approx([0.5 * r for r in treated])
    assert_same_when_pasted(given.recipe, both)


def test_no_warm_up_where_the_rate_rises_already_or_the_run_is_short():
    one_cycle = SCHEDULES["one cycle"][0]
    assert warmed_up(facts(100, scheduler=lambda o: schedulers.LinearLR(o, 0.01, total_iters=20))) is None
    assert warmed_up(facts(100, epochs=25, scheduler=one_cycle)) is None
    assert warmed_up(facts(8)) is None


def test_a_schedule_is_left_out_or_lasts_to_the_end():
    early = facts(40, epochs=LONG, scheduler=lambda o: schedulers.StepLR(o, 5, 0.01))
    assert set(rates_of(constant(early)(early.recipe))) == {0.1}
    remedy = cosine(early)
    seen = rates_of(remedy(early.recipe))
    assert seen == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 40)) for k in range(40)])
    for one in (constant(early), remedy):
        assert_same_when_pasted(early.recipe, one)
    assert constant(facts()) is None
    assert constant(facts(scheduler=lambda o: schedulers.LambdaLR(o, lambda _: 1.0))) is None
    lasting = facts(40, epochs=LONG, scheduler=lambda o: schedulers.CosineAnnealingLR(o, 60))
    assert cosine(lasting) is None


def test_the_cosine_begins_where_a_schedule_of_its_own_rates_had_its_peak():
    given = facts(40, epochs=LONG, scheduler=lambda o: schedulers.OneCycleLR(o, 0.5, total_steps=60, pct_start=0.1))
    short = facts(40, epochs=LONG, scheduler=lambda o: schedulers.CyclicLR(o, 1e-5, 0.5, 2, 2, scale_fn=falling))
    assert cosine(given) is None
    remedy = cosine(short)
    assert max(rates_of(remedy(short.recipe))) == pytest.approx(0.5, rel=0.01)
    assert_same_when_pasted(short.recipe, remedy)


def falling(cycle):
    return 1.0 if cycle == 1 else 1e-3


def decaying(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)


def normed():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.PReLU(), nn.Linear(16, 2))


def test_weight_decay_is_lifted_lowered_and_kept_off_biases():
    given = facts(optimizer=decaying, model=normed)
    assert optimizer_of(decay_lifted(given), given).param_groups[0]["weight_decay"] == 0.0
    assert optimizer_of(decay_lowered(given), given).param_groups[0]["weight_decay"] == 0.05
    weights, others = optimizer_of(decay_off_biases(given), given).param_groups
    assert [p.ndim for p in weights["params"]] == [2, 2]
    assert [p.ndim for p in others["params"]] == [1, 1, 1, 1, 1]
    assert (weights["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert (weights["lr"], others["lr"]) == (0.1, 0.1)
    for remedy in (decay_lifted(given), decay_lowered(given), decay_off_biases(given)):
        assert_same_when_pasted(given.recipe, remedy)
        assert_same_when_pasted(given.recipe, remedy.then(momentum(given)).then(rate(given, 0.3)))


def test_without_decay_there_is_nothing_to_lift():
    assert decay_lifted(facts()) is None
    assert decay_lowered(facts()) is None
    assert decay_off_biases(facts()) is None


def test_groups_are_not_split_under_a_schedule_that_counts_them():
    given = facts(optimizer=decaying, scheduler=lambda o: schedulers.LambdaLR(o, [lambda _: 0.5]))
    assert decay_off_biases(given) is None


@pytest.mark.parametrize(
    ("build", "decay"), [(sgd, 1e-4), (lambda m: torch.optim.AdamW(m.parameters(), weight_decay=0), 1e-2)]
)
def test_decay_is_added_to_weights_only(build, decay):
    given = facts(optimizer=build)
    remedy = decay_added(given)
    assert [g["weight_decay"] for g in optimizer_of(remedy, given).param_groups] == [decay, 0.0]
    assert_same_when_pasted(given.recipe, remedy)
    assert decay_added(facts(optimizer=decaying)) is None


CALM = (1.0, 1.1, 0.9, 1.2, 1.0, 1.0, 0.8, 1.1)
SPIKED = (*CALM[:6], 40.0, 60.0)


def test_spikes_are_clipped_by_what_was_recorded():
    given = facts(norms=SPIKED)
    remedies = {remedy.name: remedy for remedy in clipping(given)}
    by_norm, by_value, adaptive = remedies.values()
    assert by_norm.name == "clipped at norm 1.05"
    assert by_value.edits[0].arguments["clip_value"] == pytest.approx(3 * 1.05 / math.sqrt(418), rel=0.01)
    assert adaptive.name == "adaptive gradient clipping"
    for remedy in remedies.values():
        assert remedy.causes == (Cause.CLIPPING,)
        assert_same_when_pasted(given.recipe, remedy)


def test_explosions_are_clipped_at_what_is_quiet_too():
    names = [remedy.name for remedy in clipping(facts(norms=(1.0, 2.0, 4.0, 8.0, 16.0)))]
    assert names[:2] == ["clipped at norm 4", "clipped at norm 1.4"]
    growing = facts(norms=tuple(1.5**k for k in range(24)))
    assert clipping(growing)[1].name == "clipped at norm 2.59"  # between 1.5**2 and 1.5**3
    huge = facts(norms=tuple(1000 * norm for norm in CALM))
    assert clipping(huge)[0].name == "clipped at norm 1000"


def test_calm_or_unknown_norms_are_not_clipped():
    assert clipping(facts(norms=CALM)) == []
    assert clipping(facts()) == []
    adam = facts(norms=tuple(1000 * norm for norm in CALM), optimizer=lambda m: torch.optim.Adam(m.parameters()))
    assert clipping(adam) == []  # it does not see the scale


def test_the_adaptive_clip_is_for_networks_whose_last_matrix_is_their_output():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(16, 2), nn.Linear(6, 16)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    names = [remedy.name for remedy in clipping(facts(norms=SPIKED, model=Reversed))]
    assert "adaptive gradient clipping" not in names
    assert len(names) == 2


def test_a_clip_is_lifted_or_raised_where_there_is_one():
    given = facts(norms=CALM, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1e-6))
    assert same_training(clip_lifted(given)(given.recipe), recipe())
    assert clip_raised(given).name == "clipped at norm 1.13"
    for remedy in (clip_lifted(given), clip_raised(given)):
        assert_same_when_pasted(given.recipe, remedy)
    assert clip_lifted(facts(norms=CALM)) is None
    assert clip_raised(facts(norms=CALM)) is None
    assert clip_raised(facts(clip=given.recipe.clip)) is None


def test_a_frozen_part_stays_frozen():
    def frozen():
        model = mlp()
        model[0].requires_grad_(False)
        return model

    given = facts(model=frozen, optimizer=lambda m: sgd(m[2:], 0.1))
    assert held(given) is None
    remedy = rate(given, 0.5)
    assert_same_when_pasted(given.recipe, remedy)
