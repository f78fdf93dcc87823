"""What is tried on networks that carry a state, in which order, and under which trainings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import synthetic_observations as make
import torch
from test_decide import Scripted
from torch import nn

from graddoctor.diagnose.decide import decide
from graddoctor.diagnose.plan import plan
from graddoctor.diagnose.recurrent_steps import recurrent_steps, starts_wild, state_suspicions
from graddoctor.diagnose.rules import suspect
from graddoctor.observe.readings import Spectrum
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.trainings import MAX_NORM, RATES, ordinary_trainings
from graddoctor.terms import Cause

STEPS, WIDTH = 20, 8


class Reader(nn.Module):
    def __init__(self, kind=nn.RNN, **options):
        super().__init__()
        self.cell, self.out = kind(3, WIDTH, batch_first=True, **options), nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


class Loop(nn.Module):
    """A sigmoid cell that is written by hand."""

    def __init__(self):
        super().__init__()
        self.read, self.keep, self.out = nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x):
        state = x.new_zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            state = torch.sigmoid(self.read(x[:, t]) + self.keep(state))
        return self.out(state)


def adam(lr):
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr)


def seen(build=Reader, decades=-9.0, reading=None, **changes):
    """An observation of a network that carries a state, as its look through time would have it."""
    batch = torch.randn(4, STEPS, 3, generator=torch.Generator().manual_seed(0))
    recipe = make.recipe(model=build, batches=[batch], **changes)
    start = make.look(temporal=(reading or make.reading("cell", decades),))
    return make.observation(start, make.look(make.STEPS), recipe=recipe, progress=0.0)


def names(observation):
    steps = recurrent_steps(observation, suspect(observation))
    return ["rate" if step is None else step.remedy.name for step in steps]


def test_only_a_state_makes_them_due():
    assert state_suspicions(suspect(seen(decades=-2.0))) == ()
    assert [s for s in plan(make.observation(), ()) if s and s.trainers] == []


def test_a_cell_without_gates_is_exchanged_after_the_rate_was_tried():
    tried = names(seen())
    assert tried[0] == "rate"
    assert [name.partition(" ")[0] for name in tried[1:4]] == ["LSTM", "LSTM", "GRU"]
    assert tried[4:] == ["recurrent weights orthogonal"]


def test_gates_come_before_cells():
    def shut():
        model = Reader(nn.LSTM)
        with torch.no_grad():
            model.cell.bias_ih_l0[WIDTH : 2 * WIDTH] = -5.0
        return model

    tried = names(seen(shut))
    assert tried[:2] == ["rate", f"chrono initialization for {STEPS} steps"]
    assert not any("in place of" in name for name in tried)


def test_a_sigmoid_in_a_loop_becomes_a_tanh_with_the_start_that_suits_it():
    tried = names(seen(Loop))
    assert tried[1] == "tanh in place of sigmoid, recurrent weights orthogonal"
    steps = [step for step in recurrent_steps(seen(Loop), suspect(seen(Loop))) if step]
    assert steps[0].cause is Cause.ACTIVATION
    assert "keep" in steps[0].remedy.modules


def test_where_the_gradient_explodes_the_start_comes_first_and_the_rate_last():
    tried = names(seen(lambda: Reader(nonlinearity="relu"), 6.0))
    assert tried[:2] == ["identity recurrence (IRNN)", "recurrent weights orthogonal"]
    assert tried[-1] == "rate"


@pytest.mark.parametrize(
    "odd",
    [{"saturation": (0.9,) * 30}, {"spectrum": Spectrum((0,), (1.0,), (1.0,), (1.0,), radius=0.01)}],
    ids=["pinned", "faint"],
)
def test_an_odd_start_comes_before_the_cell(odd):
    tried = names(seen(reading=make.reading("cell", -9.0, **odd)))
    assert tried[:2] == ["rate", "recurrent weights orthogonal"]
    usual = Spectrum((0,), (1.0,), (1.0,), (1.0,), radius=math.nan)
    assert names(seen(reading=make.reading("cell", -9.0, spectrum=usual)))[1].startswith("LSTM")


def test_ordinary_trainings_are_adams_with_a_clip():
    by_sgd = ordinary_trainings(Facts(seen().recipe))
    assert [one.name for one in by_sgd] == [f"Adam at {lr:g}, clipped at norm {MAX_NORM:g}" for lr in RATES]
    by_adam = ordinary_trainings(Facts(seen(optimizer=adam(1e-3)).recipe))
    assert [one.rate for one in by_adam] == pytest.approx([10.0, 3.0])
    same = ordinary_trainings(Facts(seen(optimizer=adam(RATES[0])).recipe))
    assert same[0].name == f"clipped at norm {MAX_NORM:g}"


class TestCredit:
    """A cell is credited with what it adds to its training alone, unless a state explodes from the start."""

    def decided(self, observation, gains):
        class Told(Scripted):
            def _run(self, remedy, share, *, whole):
                arm = super()._run(remedy, share, whole=whole)
                gain = next((g for name, g in gains.items() if remedy.name.startswith(name)), 0.0)
                gain = gain[whole] if isinstance(gain, tuple) else gain
                return replace(arm, gain=gain, progress=gain, outcome=make.outcome(np.ones(64)))

        bench = Told({})
        verdict = decide(observation, suspect(observation), bench)
        return verdict.arm.cause if verdict.arm else None

    def test_what_the_training_alone_does_is_its_own(self):
        observation = seen(optimizer=adam(1e-3))
        assert self.decided(observation, {"LSTM": 0.9, "learning rate x 10, clipped": 0.2}) is Cause.RECURRENCE
        assert self.decided(observation, {"LSTM": 0.9, "learning rate x 10, clipped": 0.8}) is Cause.LEARNING_RATE

    def test_a_run_that_was_stopped_once_it_helped_is_run_to_its_end_first(self):
        observation = seen(optimizer=adam(1e-3))
        gains = {"LSTM": (0.6, 0.99), "learning rate x 10, clipped": 0.55}
        assert self.decided(observation, gains) is Cause.RECURRENCE
        assert self.decided(observation, gains | {"LSTM": (0.6, 0.7)}) is Cause.LEARNING_RATE

    def test_living_with_an_explosion_is_no_evidence(self):
        observation = seen(decades=6.0)
        assert starts_wild(suspect(observation))
        gains = {"recurrent weights orthogonal": 0.9, "Adam": 0.9}
        assert self.decided(observation, gains) is Cause.INITIALIZATION
