"""Accumulation, schedules in full and in short, and how runs end."""

import functools
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from graddoctor.errors import RecipeError
from graddoctor.train import NON_FINITE_PATIENCE, train
from train_recipes import Looker, loss, net, pairs, recipe, state


def smooth_net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def double_loss(model, batch):
    return loss(model, (batch[0].double(), batch[1]))


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulated_steps_equal_steps_on_one_big_batch(accumulate):
    given = recipe(model=smooth_net, loss=double_loss)
    micro = train(given.with_(accumulate=accumulate))
    big = train(given.with_(batches=lambda: pairs(4 * accumulate)))
    assert micro.steps == big.steps == 2 * 6 // accumulate
    assert micro.losses == pytest.approx(big.losses, rel=1e-12)
    assert torch.allclose(state(micro), state(big), rtol=0, atol=1e-14)


def test_the_rest_of_an_epoch_is_a_step_of_its_own():
    given = recipe(model=smooth_net, loss=double_loss, accumulate=4)
    outcome = train(given)  # 6 batches: 4 and 2
    assert outcome.steps_per_epoch == 2
    big = [tuple(torch.cat(part) for part in zip(*pairs()[a:b], strict=True)) for a, b in ((0, 4), (4, 6))]
    assert torch.allclose(state(outcome), state(train(given.with_(accumulate=1, batches=big))), rtol=0, atol=1e-14)


def rates(given, steps=None):
    looker = Looker()
    train(given, steps=steps, observer=looker)
    return looker.rates


def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 6, 0.5)


def test_the_scheduler_steps_once_a_batch():
    assert rates(recipe(scheduler=halving, epochs=4)) == pytest.approx([0.1 / 2 ** (k // 6) for k in range(24)])


def test_the_scheduler_may_step_once_an_epoch():
    given = recipe(
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5), scheduler_every="epoch", epochs=4
    )
    assert rates(given) == pytest.approx([0.1 / 2 ** (k // 6) for k in range(24)])
    assert rates(given, steps=8) == pytest.approx([0.1 / 2 ** (k // 2) for k in range(8)])


@pytest.mark.parametrize("steps", [24, 12, 8, 4, 5, 7])
def test_a_shorter_run_goes_through_the_whole_schedule(steps):
    full, short = rates(recipe(scheduler=halving, epochs=4)), rates(recipe(scheduler=halving, epochs=4), steps=steps)
    assert len(short) == steps
    assert short == [full[math.floor(k * 24 / steps + 1e-9)] for k in range(steps)]
    assert set(short) == set(full)


def one_cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)


@pytest.mark.parametrize("steps", [None, 7])
def test_a_scheduler_that_wants_the_number_of_steps_is_given_those_of_the_full_run(steps):
    seen = rates(recipe(scheduler=one_cycle, epochs=4), steps=steps)
    assert max(seen) > 0.7
    assert seen[-1] < 0.3


@pytest.mark.parametrize(("every", "turns"), [("batch", 24), ("epoch", 4)])
def test_a_scheduler_is_told_how_often_it_will_be_stepped(every, turns):
    told = []

    def schedule(optimizer, steps):
        told.append(steps)
        return halving(optimizer)

    train(recipe(scheduler=schedule, epochs=4, scheduler_every=every), steps=2)
    assert told == [turns]


def test_a_scheduler_class_with_its_options_bound_is_a_scheduler():
    partial = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=24)
    assert rates(recipe(scheduler=partial, epochs=4))[12] == pytest.approx(0.05)
    whole = torch.optim.lr_scheduler.CosineAnnealingLR  # (optimizer, T_max)
    assert rates(recipe(scheduler=whole, epochs=4))[12] == pytest.approx(0.05)


class Told(torch.optim.lr_scheduler.ReduceLROnPlateau):
    metrics = ()

    def step(self, metrics, epoch=None):
        self.metrics = (*self.metrics, metrics)
        super().step(metrics)


def plateau_recipe(every, **options):
    made = []

    def schedule(optimizer):
        made.append(Told(optimizer, factor=0.5, patience=0, **options))
        return made[-1]

    return recipe(scheduler=schedule, scheduler_every=every, epochs=4, evaluate=lambda _: 0.25), made


def test_a_plateau_scheduler_is_given_the_mean_loss_since_its_last_turn():
    given, made = plateau_recipe("epoch")
    outcome = train(given)
    assert made[0].metrics == pytest.approx(outcome.losses.reshape(4, 6).mean(1), rel=1e-6)
    given, made = plateau_recipe("batch")
    outcome = train(given)
    assert made[0].metrics == pytest.approx(outcome.losses, rel=1e-6)


def test_a_plateau_scheduler_that_waits_for_a_rise_is_given_the_metric():
    given, made = plateau_recipe("epoch", mode="max")
    train(given)
    assert made[0].metrics == (0.25,) * 4
    with pytest.raises(RecipeError, match=r"mode='max'.*give evaluate="):
        train(given.with_(evaluate=None))


def test_a_plateau_lowers_the_rate():
    given = recipe(
        loss=lambda m, b: loss(m, b) * 0 + 1,
        scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2),
    )
    assert rates(given)[-1] < 0.1 / 4


def test_the_clip_sees_the_parameters_that_have_a_gradient():
    seen = []

    def half_used():
        model = net()
        model.spare = nn.Linear(2, 2)
        model.forward = nn.Sequential(*list(model)[:-1]).forward
        return model

    train(recipe(model=half_used, clip=lambda parameters: seen.append(len(parameters))), steps=1)
    assert seen == [4]


def breaks_after(steps, how):
    def count(model, batch):
        count.calls += 1
        if count.calls > steps:
            return how(model, batch)
        return loss(model, batch)

    count.calls = 0
    return count


def test_losses_that_stay_non_finite_end_a_run():
    outcome = train(recipe(loss=breaks_after(5, lambda m, b: loss(m, b) * math.nan), epochs=40))
    assert outcome.ended == "non-finite"
    assert outcome.first_nonfinite == 5
    assert 5 + NON_FINITE_PATIENCE <= outcome.steps <= 5 + NON_FINITE_PATIENCE + 16
    assert outcome.total_steps == 240


def test_a_few_non_finite_losses_do_not():
    def blinks(model, batch):
        blinks.calls += 1
        value = loss(model, batch)
        return value + math.inf if blinks.calls % 19 == 0 else value

    blinks.calls = 0
    outcome = train(recipe(loss=blinks, epochs=20, clip=lambda ps: nn.utils.clip_grad_norm_(ps, 1.0)))
    assert outcome.ended == "complete"
    assert (~np.isfinite(outcome.losses)).sum() == 6


def test_an_interrupted_run_keeps_what_it_saw():
    def interrupt(model, batch):
        raise KeyboardInterrupt

    outcome = train(recipe(loss=breaks_after(5, interrupt), evaluate=lambda _: 1.0))
    assert outcome.ended == "interrupted"
    assert outcome.losses.tolist() == train(recipe()).losses[:5].tolist()
    assert outcome.evaluation is None


def test_an_interrupted_evaluation_keeps_the_run():
    def interrupt(model):
        raise KeyboardInterrupt

    outcome = train(recipe(evaluate=interrupt))
    assert (outcome.ended, outcome.steps, outcome.evaluation) == ("interrupted", 12, None)


def test_an_observer_hears_of_the_losses_before_an_error_of_the_users():
    looker = Looker()

    def raises(model, batch):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(recipe(loss=breaks_after(5, raises)), observer=looker)
    assert looker.lengths == [5]


def test_a_deadline_and_an_observer_end_a_run():
    assert train(recipe(), deadline=time.monotonic()).ended == "deadline"
    looker = Looker()
    looker.stop = True
    outcome = train(recipe(epochs=20), observer=looker)
    assert (outcome.ended, outcome.steps) == ("stopped", 16)


@pytest.mark.parametrize(("steps", "run"), [(1, 1), (5, 5), (12, 12), (100, 12), (None, 12), (0, 12)])
def test_so_many_steps_are_run(steps, run):
    outcome = train(recipe(), steps=steps)
    assert (outcome.steps, outcome.total_steps) == (run, 12)


def test_the_context_is_entered_for_the_steps_alone():
    events = []

    class Around:
        def __enter__(self):
            events.append("in")

        def __exit__(self, *_):
            events.append("out")

    def build():
        events.append("build")
        return net()

    train(recipe(model=build, evaluate=lambda _: events.append("evaluate") or 1.0), around=Around)
    assert events == ["build", "in", "out", "evaluate"]
