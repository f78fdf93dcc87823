"""Curves of a training and of a gradient."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import graddoctor as gd
from graddoctor.lab import curves
from graddoctor.lab.looking import Every
from graddoctor.lab.stacks import stack


def outcome(losses, total=None, epoch=2):
    values = np.asarray(losses, dtype=np.float64)
    return SimpleNamespace(losses=values, steps=len(values), total_steps=total or len(values), steps_per_epoch=epoch)


def test_steps_that_were_not_run_or_are_not_finite_count_as_guessing():
    run = outcome([1.0, math.nan, math.inf], total=5)
    assert curves.losses(run).tolist() == [1.0, *[curves.GUESSING] * 4]
    assert len(curves.smooth(run)) == 4


def test_steps_to_are_those_of_the_first_epoch_whose_mean_is_low_enough():
    run = outcome([2.0, 2.0, 1.0, 0.8, 0.1, 0.1])
    assert curves.steps_to(run, 1.0) == 4
    assert curves.steps_to(run, 0.01) == 6


def test_epochs_are_means_that_do_not_leave_the_picture():
    assert curves.epochs(outcome([2.0, 1.0, 50.0, 50.0])) == pytest.approx([1.5, 1.2 * math.log(10)])


def test_the_course_of_the_gradient_ends_at_0_and_begins_at_the_total():
    model = stack(6, nn.Tanh)
    look = gd.probe(model, lambda net, x: net(x).square().mean(), [torch.randn(16, 64)])
    course = curves.course(look.budget)
    assert course[-1] == 0
    assert course[0] == pytest.approx(look.budget.total)
    assert len(course) == len(look.budget.rows) + 1


def test_every_reads_before_the_step_and_changes_nothing():
    def recipe():
        return gd.Recipe(
            model=lambda: nn.Linear(4, 1),
            loss=lambda model, x: model(x).square().mean(),
            batches=[torch.ones(8, 4)] * 5,
            optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
            epochs=1,
        )

    looks = Every(2, lambda model, batch: float(model(batch).square().mean()))
    seen, alone = gd.train(recipe(), observer=looks), gd.train(recipe())
    assert looks.readings == pytest.approx(seen.losses[::2].tolist())
    assert torch.equal(seen.model.weight, alone.model.weight)


def test_a_stack_without_biases_has_none():
    assert all(layer.bias is None for layer in stack(3, nn.ReLU, biases=False) if isinstance(layer, nn.Linear))
