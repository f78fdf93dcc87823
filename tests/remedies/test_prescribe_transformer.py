"""Starts and places of norms that transformers need."""

import pytest
import torch
from attention_networks import by_hand, recall, scaled
from pasted import assert_same_when_pasted
from torch import nn

from graddoctor.remedies.facts import Facts
from graddoctor.remedies.norm_places import norm_epsilon, pre_norms
from graddoctor.remedies.plain.branch_norms import lower_norm_epsilon
from graddoctor.remedies.plain.weights import expand_names
from graddoctor.remedies.reading import read
from graddoctor.remedies.transformer_start import depth_scaled, unit_embeddings
from graddoctor.terms import Cause
from graddoctor.train import build_model, train


def plan_of(remedy):
    return {
        name: entry
        for names, entry in remedy.edits[0].arguments["plan"].items()
        for name in expand_names(*(names if isinstance(names, tuple) else (names,)))
    }


def end_of(outcome):
    return outcome.losses[-8:].mean()


# --- embeddings


@pytest.mark.parametrize("factor", [300.0, 1e-4])
def test_embeddings_get_unit_length(factor):
    given = recall(by_hand(), scaled(factor, "tokens", "places"))
    remedy = unit_embeddings(Facts(given))
    assert plan_of(remedy) == {"tokens.weight": ("normal", 0.25), "places.weight": ("normal", 0.25)}
    assert remedy.causes == (Cause.INITIALIZATION,)
    assert float(build_model(remedy(given)).tokens.weight.detach().std()) == pytest.approx(0.25, rel=0.2)


def test_the_right_cure_of_embeddings_that_drown_the_branches():
    given = recall(by_hand(), scaled(1000.0, "tokens", "places"), epochs=12)
    assert end_of(train(given)) > 3 * end_of(train(unit_embeddings(Facts(given))(given)))


@pytest.mark.parametrize("factor", [1.0, 0.3])  # torch's own spread of one, and a customary one
def test_ordinary_embeddings_stay(factor):
    assert unit_embeddings(Facts(recall(by_hand(), scaled(factor, "tokens", "places")))) is None


# --- branches


def test_branches_are_scaled_by_their_number():
    given = recall(by_hand(blocks=3))
    remedy = depth_scaled(Facts(given))
    ends = [f"blocks.{k}.{part}.weight" for k in range(3) for part in ("attention.project", "feed.2")]
    assert plan_of(remedy) == dict.fromkeys(sorted(ends), ("scaled", pytest.approx(6**-0.5, rel=1e-4)))
    before, after = build_model(given).blocks[1].feed[2].weight, build_model(remedy(given)).blocks[1].feed[2].weight
    assert torch.allclose(after, before / 6**0.5, rtol=1e-4)
    assert depth_scaled(Facts(remedy(given))) is None
    assert_same_when_pasted(given, remedy, steps=2)


def test_few_branches_and_none_stay_as_they_are():
    assert depth_scaled(Facts(recall(by_hand(blocks=1)))) is None
    flat = nn.Sequential
    assert depth_scaled(Facts(recall(lambda: flat(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(48, 8))))) is None


def test_the_right_cure_of_a_deep_stack_of_loud_branches():
    loud = scaled(6.0, "project.weight", "feed.2.weight")
    given = recall(by_hand("none", blocks=8), loud, epochs=12, lr=3e-3)
    assert end_of(train(depth_scaled(Facts(given))(given))) < 0.8 * end_of(train(given))


def test_a_bias_that_all_blocks_share_hides_no_branch():
    """T5 computes the bias of places once and adds it in every block: behind the join it is on neither way."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.bias = nn.Embedding(9, 16), nn.Embedding(6, 6)
            self.layers = nn.ModuleList(
                nn.ModuleDict({part: nn.Linear(16, 16) for part in ("q", "k", "v", "o")}) for _ in range(3)
            )
            self.out = nn.Linear(16, 8)

        def forward(self, tokens):
            x, bias = self.tokens(tokens), self.bias(torch.arange(6))
            for layer in self.layers:
                weights = torch.softmax(layer["q"](x) @ layer["k"](x).mT / 4 + bias, -1)
                x = x + layer["o"](weights @ layer["v"](x))
            return self.out(x.mean(1))

    given = recall(Shared)
    found = read(given, build_model(given), Facts(given).batch).branches
    assert [branch.end for branch in found] == [f"layers.{k}.o.weight" for k in range(3)]


# --- norms


def test_norms_are_moved_before_branches():
    given = recall(by_hand("post"))
    remedy = pre_norms(Facts(given))
    assert remedy.edits[0].arguments == {
        "branches": {
            f"blocks.{k}.{norm}": (f"blocks.{k}.{start}",)
            for k in (0, 1)
            for norm, start in (("norm1", "attention"), ("norm2", "feed"))
        },
        "last": "blocks.1.norm2",
    }
    treated, twin = build_model(remedy(given)), by_hand("pre")()
    state = build_model(given).state_dict()
    twin.load_state_dict(state, strict=False)
    tokens = Facts(given).batch[0]
    assert torch.allclose(treated(tokens), twin(tokens), atol=1e-6)  # the twin's last norm starts as the new one does
    missing, unexpected = treated.load_state_dict(state, strict=False)
    assert missing == ["blocks.1.norm2.after.weight", "blocks.1.norm2.after.bias"]
    assert unexpected == []
    assert pre_norms(Facts(remedy(given))) is None
    assert_same_when_pasted(given, remedy, steps=3)


def test_the_right_cure_of_deep_post_norm_without_warm_up():
    given = recall(by_hand("post", blocks=10), lr=3e-2, epochs=12)
    assert end_of(train(given)) > 2
    assert end_of(train(pre_norms(Facts(given))(given))) < 1


@pytest.mark.parametrize("order", ["pre", "none"])
def test_where_no_norm_stands_behind_a_sum_none_is_moved(order):
    assert pre_norms(Facts(recall(by_hand(order)))) is None


def test_layers_of_torch_move_their_norms_themselves():
    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.tokens, self.stack = nn.Embedding(9, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(16, 8)

        def forward(self, tokens):
            return self.out(self.stack(self.tokens(tokens)).mean(1))

    assert pre_norms(Facts(recall(Torch))) is None


def drowned(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e4


def test_an_epsilon_that_drowns_the_signal_is_lowered():
    given = recall(by_hand("post"), drowned, epochs=25)
    remedy = norm_epsilon(Facts(given))
    assert remedy.modules == tuple(f"blocks.{k}.norm{n}" for k in (0, 1) for n in (1, 2))
    assert end_of(train(given)) > 1.5
    assert end_of(train(remedy(given))) < 0.5
    assert norm_epsilon(Facts(remedy(given))) is None
    assert norm_epsilon(Facts(recall(by_hand()))) is None
    assert_same_when_pasted(given, remedy, steps=2)


def test_the_epsilon_of_other_hands():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.variance_epsilon = 1.0

    model = nn.Sequential(Root(), nn.BatchNorm1d(3, eps=0.5))
    lower_norm_epsilon(model, ["0", "1"], eps=1e-6)
    assert (model[0].variance_epsilon, model[1].eps) == (1e-6, 1e-6)
