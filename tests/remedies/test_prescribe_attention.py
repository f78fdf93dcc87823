"""Attention whose logits are too large: who makes them, and what quiets them."""

import pytest
import torch
from attention_networks import Packed, Torch, by_hand, recall, scaled
from pasted import assert_same_when_pasted
from torch import nn

from graddoctor.remedies.attention import qk_normalised, quiet_logits
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.initialization import critical
from graddoctor.remedies.plain.attention import add_qk_norms, normalise_heads, normalise_packed_heads
from graddoctor.remedies.queries import looks, makers
from graddoctor.terms import Cause
from graddoctor.train import build_model, train

LOUD = {
    "by hand": (by_hand(), scaled(30.0, "query.weight", "key.weight")),
    "packed": (Packed, scaled(8.0, "qkv.weight")),
    "torch": (Torch, scaled(8.0, "in_proj_weight")),
}


def spreads(recipe):
    return [one.logit_std for one in looks(recipe, build_model(recipe), Facts(recipe).batch)]


@pytest.mark.parametrize(("build", "spoil"), LOUD.values(), ids=LOUD)
def test_loud_logits_start_at_unit_scale(build, spoil):
    given = recall(build, spoil)
    remedy = quiet_logits(Facts(given))
    assert min(spreads(given)) > 5
    assert spreads(remedy(given)) == pytest.approx([1.0] * len(spreads(given)), abs=0.5)
    assert remedy.causes == (Cause.INITIALIZATION,)
    assert quiet_logits(Facts(remedy(given))) is None


@pytest.mark.parametrize(
    "build", [by_hand(), Packed, Torch, lambda: nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(48, 8))]
)
def test_ordinary_logits_are_left_alone(build):
    given = recall(build)
    assert quiet_logits(Facts(given)) is None
    assert qk_normalised(Facts(given)) is None


def test_who_makes_the_logits():
    given = recall(by_hand())
    net = build_model(given)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    readings = looks(given, net, Facts(given).batch)
    found = makers(given, net, Facts(given).batch, readings)
    assert [one.orders for one in found] == [
        {f"blocks.{k}.attention.{part}.weight": 1 for part in ("query", "key")} for k in (0, 1)
    ]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    packed = recall(Torch)
    (one,) = makers(packed, build_model(packed), Facts(packed).batch, spread_of(packed))
    assert one.orders == {"mix.in_proj_weight": 2}


def spread_of(recipe):
    return looks(recipe, build_model(recipe), Facts(recipe).batch)


@pytest.mark.parametrize("prescribe", [quiet_logits, qk_normalised, critical])
def test_the_right_cure_of_a_saturated_attention(prescribe):
    given = recall(by_hand(blocks=1), scaled(200.0, "query.weight", "key.weight"), epochs=25, lr=1e-2)
    sick, cured = (train(one).losses[-8:].mean() for one in (given, prescribe(Facts(given))(given)))
    assert cured < 0.1
    assert sick > 3 * cured


@pytest.mark.parametrize(("build", "spoil"), [LOUD["by hand"], LOUD["packed"]], ids=["by hand", "packed"])
def test_normalised_queries_and_keys_bound_the_logits(build, spoil):
    given = recall(build, spoil)
    remedy = qk_normalised(Facts(given))
    width = remedy.edits[0].arguments["head_width"]
    assert width == 4
    treated = remedy(given)
    assert max(one.logit_max for one in spread_of(treated)) <= width**0.5 * (1 + 1e-5)
    assert remedy.causes == (Cause.NORMALIZATION,)
    assert qk_normalised(Facts(treated)) is None


def test_queries_of_torch_are_in_no_layer_of_their_own():
    assert qk_normalised(Facts(recall(*LOUD["torch"]))) is None


def test_logits_that_grow_are_normalised_where_the_diagnosis_points():
    given = recall(by_hand())
    remedy = qk_normalised(Facts(given, suspects=("blocks.1.attention.query",)))
    assert remedy is None or remedy.modules == ("blocks.1.attention.query", "blocks.1.attention.key")
    remedy = qk_normalised(Facts(given, suspects=("blocks.1.attention",)))
    assert remedy.modules == ("blocks.1.attention.query", "blocks.1.attention.key")


def test_values_stay_as_they_are_in_a_packed_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 18))
    x = torch.randn(3, 5, 6)
    before = model(x)
    add_qk_norms(model, ["0"], 3, packed=True)
    after = model(x)
    assert torch.equal(after[..., 12:], before[..., 12:])
    heads = after[..., :12].unflatten(-1, (-1, 3))
    assert torch.allclose(heads.square().mean(-1), torch.ones(3, 5, 4), atol=1e-2)
    assert torch.equal(normalise_packed_heads(model[0], (), before), after)
    assert torch.allclose(normalise_heads(model[0], (), before[..., :12]), after[..., :12])


@pytest.mark.parametrize("prescribe", [quiet_logits, qk_normalised])
def test_what_is_pasted_is_what_was_proven(prescribe):
    given = recall(*LOUD["packed"])
    assert_same_when_pasted(given, prescribe(Facts(given)), steps=3)


def test_a_start_without_the_root_of_the_width_is_quieted_too():
    """T5's attention divides by nothing: critical weights alone would saturate wide heads."""

    class Undivided(Packed):
        def __init__(self):
            super().__init__(width=128, heads=2)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
            q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
            return self.out((x + self.proj((torch.softmax(q @ k.mT, -1) @ v).transpose(1, 2).flatten(2))).mean(1))

    given = recall(Undivided)
    assert max(spreads(critical(Facts(given))(given))) < 1.5
