"""Equal blocks in a row are found however a network is written, and leaving some of them out cures what is too deep."""

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import data, recipe
from torch import nn
from torch.nn.functional import relu

from graddoctor.remedies.depth import DEEP, deep_blocks, fewer_layers, shallower
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.depth import PassedBy, leave_out
from graddoctor.terms import Cause
from graddoctor.train import build_model, train

WIDTH = 16


class Layer(nn.Module):
    def __init__(self, *, skip=False):
        super().__init__()
        self.fc, self.norm, self.skip = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), skip

    def forward(self, x, scale=1.0):
        made = scale * relu(self.norm(self.fc(x)))
        return x + made if self.skip else made


class Named(nn.Module):
    """Layers under names of their own, functions between them, and one that is used twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.out, self.tied = nn.Linear(6, WIDTH), nn.Linear(WIDTH, 2), nn.Linear(WIDTH, WIDTH)
        for k in range(10):
            setattr(self, f"fc{k}", nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        x = self.tied(self.tied(self.stem(x)))
        for k in range(10):
            x = relu(getattr(self, f"fc{k}")(x))
        return self.out(x)


def stacked(layers=40, *, skip=False):
    return nn.Sequential(nn.Linear(6, WIDTH), *(Layer(skip=skip) for _ in range(layers)), nn.Linear(WIDTH, 2))


def flat(layers=10):
    hidden = [part for _ in range(layers) for part in (nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh())]
    return nn.Sequential(nn.Linear(6, WIDTH), *hidden, nn.Linear(WIDTH, 2))


def facts(build):
    x, _ = data(256)
    batches = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    given = recipe(model=build, batches=batches, epochs=20, optimizer=lambda m: torch.optim.Adam(m.parameters(), 3e-3))
    return Facts(given)


def test_blocks_of_a_class_of_ones_own():
    (run,) = facts(stacked).blocks
    assert [block.modules for block in run] == [(str(k),) for k in range(1, 41)]
    assert run[0].shape == (32, WIDTH)


def test_in_a_sequence_what_follows_a_layer_goes_with_it():
    (run,) = facts(flat).blocks
    assert run[0].modules == ("1", "2", "3")
    assert len(run) == 10


def test_layers_called_by_name_but_not_one_that_is_used_twice():
    (run,) = facts(Named).blocks
    assert [block.name for block in run] == [f"fc{k}" for k in range(10)]


def test_every_second_or_fourth_is_kept_and_the_first_among_them():
    half, quarter = fewer_layers(facts(flat))
    assert half.modules == ("4", "10", "16", "22", "28")
    assert half.edits[0].arguments["names"][:4] == ("4", "5", "6", "10")
    assert quarter.modules == ("4", "7", "10", "16", "19", "22", "28")
    assert half.causes == (Cause.DEPTH,)
    assert half.name == "5 of 10 equal blocks left out"
    assert half.cost == f"{5 * (WIDTH * WIDTH + 3 * WIDTH):,} parameters fewer"


def test_it_cures_what_is_too_deep():
    of = facts(stacked)
    assert train(of.recipe).losses[-8:].mean() > 0.6
    assert train(shallower(of, 4)(of.recipe)).losses[-8:].mean() < 0.3


@pytest.mark.parametrize("build", [lambda: stacked(DEEP - 1), lambda: nn.Linear(6, 2)], ids=["few", "none"])
def test_what_is_not_deep_is_left_alone(build):
    assert shallower(facts(build)) is None
    assert fewer_layers(facts(build)) == []


def test_depth_is_suspected_only_where_nothing_leads_past_the_blocks():
    assert len(deep_blocks(facts(stacked))) == 40
    assert deep_blocks(facts(lambda: stacked(skip=True))) == ()
    assert shallower(facts(lambda: stacked(skip=True))) is not None


def test_the_network_stays_as_it_was():
    of = facts(stacked)
    before = {name: value.clone() for name, value in of.model.state_dict().items()}
    state = torch.get_rng_state()
    assert of.blocks
    assert all(torch.equal(value, before[name]) for name, value in of.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in of.model.modules())


def test_a_left_out_block_hands_on_what_it_is_given():
    model = leave_out(stacked(8), ["3"])
    x = torch.randn(4, WIDTH)
    assert isinstance(model[3], PassedBy)
    assert model[3](x, scale=2.0) is x
    assert len(list(model.parameters())) == len(list(stacked(7).parameters()))


def test_what_is_pasted_trains_alike():
    of = facts(lambda: stacked(12))
    assert_same_when_pasted(of.recipe, shallower(of), steps=6)
    assert isinstance(build_model(shallower(of)(of.recipe))[2], PassedBy)
