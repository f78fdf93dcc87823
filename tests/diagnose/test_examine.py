"""Examinations: what they do with arms whose networks are gone, and what they make of the end of their time."""

from dataclasses import replace

import pytest
import synthetic_observations as make
import torch
from torch import nn

from graddoctor.diagnose.examine import _treated, examine
from graddoctor.diagnose.observation import Monitor, total_norm
from graddoctor.prove.experiment import Arm
from graddoctor.remedies.optimizer import learning_rate
from graddoctor.train import train


def recipe(**changes):
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    parts = {
        "model": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)),
        "loss": lambda model, batch: (model(batch) - batch[:, :1]).square().mean(),
        "batches": [inputs[:32], inputs[32:]],
        "epochs": 60,
    }
    return make.recipe(**(parts | changes))


def test_an_arm_is_looked_at_where_it_began_and_where_it_ended():
    remedy = learning_rate(3)
    treated = remedy(recipe())
    outcome = train(treated, steps=10)
    arm = Arm(remedy, treated, outcome, 0.5, 0.5, 0.5)
    seen = make.observation(recipe=recipe())
    assert [look.step for look in _treated(arm, seen).probes] == [0, 10]
    gone = replace(arm, outcome=replace(outcome, model=nn.Module()))
    assert [look.step for look in _treated(gone, seen).probes] == [0]
    again, before = _treated(gone, seen).start, _treated(arm, seen).start
    assert again.loss == before.loss == pytest.approx(float(outcome.losses[0]))


def test_rules_can_be_exchanged():
    assert examine(recipe(), rules=()).suspicions == ()
    calls = []

    def rule(seen):
        calls.append(seen)
        return ()

    examine(recipe(), rules=(rule,), steps=8, experiments=False)
    assert calls[0].outcome.steps == 8


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_monitor_reads_every_step_once(accumulate):
    clipped = recipe(accumulate=accumulate, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1e-3))
    monitor = Monitor(clipped)
    outcome = train(clipped, steps=20, observer=monitor)
    raw, after = monitor.norms()
    assert len(raw) == len(after) == len(monitor.rate_curve()) == outcome.steps == 20
    assert (after <= 1.001e-3).all()
    assert (raw > 1e-3).all()
    assert [look.step for look in monitor.finish(outcome)] == [0, 1, 2, 4, 8, 16, 20]
    assert [look.step for look in monitor.probes if look.parameters[0].update is not None] == [0, 1, 2, 4, 8, 16]


def test_the_total_norm_is_that_of_all_gradients_as_one_vector():
    model = nn.Sequential(nn.Linear(4, 8), nn.EmbeddingBag(5, 3, sparse=True))
    assert float(total_norm(model)) == 0
    (model[0](torch.randn(7, 4)).sum() + model[1](torch.tensor([[0, 1, 1]])).sum()).backward()
    dense = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()]
    expected = torch.cat([g.double().flatten() for g in dense]).norm()
    assert float(total_norm(model)) == pytest.approx(float(expected), rel=1e-6)
