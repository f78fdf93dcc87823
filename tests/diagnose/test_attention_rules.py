"""What rules make of attention: fused kernels saturate too, and logits are no measure of a signal."""

import synthetic_observations as make
from torch import nn

from graddoctor.diagnose.conditions.exploding import exploding, signal_growth
from graddoctor.diagnose.conditions.saturation import saturation
from graddoctor.diagnose.plan import plan, sick_start
from graddoctor.observe.attention import AttentionReading
from graddoctor.terms import Cause


def attention(name="blocks.0.attn", **changes):
    sound = {"logit_max": 2.0, "logit_std": 0.5, "entropy": 0.95, "saturated": 0.0}
    sizes = {"fused": True, "heads": 4, "queries": 8, "keys": 8, "allowed": 8.0}
    return AttentionReading(name=name, module=name, **(sizes | sound | changes))


def test_a_saturated_attention_is_suspected_where_a_kernel_hides_its_softmax():
    (found,) = saturation(make.observation(make.look(attention=(attention(saturated=0.8), attention("blocks.1.attn")))))
    assert found.modules[0] == "blocks.0.attn"
    assert found.numbers["saturated_share"] == 0.8
    assert found.at_start


def test_an_attention_that_still_chooses_is_not():
    look = make.look(attention=(attention(saturated=0.4),))
    assert saturation(make.observation(look)) == ()
    assert not sick_start(make.observation(look))
    assert saturation(make.observation(make.look(attention=(attention(saturated=0.9, nonfinite=3),)))) == ()


def test_a_start_where_every_row_has_made_up_its_mind_is_sick():
    assert sick_start(make.observation(make.look(attention=(attention(saturated=0.95),))))


def test_the_size_of_logits_is_no_growth_of_the_signal():
    mixer = make.activation("attn", kind="softmax", shape=(8, 4, 6, 6), input_rms=1e-5)
    loud = make.activation("attn2", kind="softmax", shape=(8, 4, 6, 6), input_rms=1e6)
    look = make.look(activations=(mixer, make.activation("act1"), loud))
    assert signal_growth(look) == 0
    assert exploding(make.observation(look)) == ()
    between_layers = make.activation("soft", kind="softmax", shape=(8, 6), input_rms=1e6)
    assert signal_growth(make.look(activations=(make.activation("act1"), between_layers))) == 6


def test_an_epsilon_that_drowns_a_norm_is_put_to_an_experiment():
    given = make.outcome()
    for eps, tried in ((1e-5, False), (10.0, True)):
        model = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1, eps=eps))
        seen = make.observation(outcome=type(given)(**(vars(given) | {"model": model})))
        steps = [step for step in plan(seen, ()) if step is not None]
        assert any(step.cause is Cause.NORMALIZATION for step in steps) is tried
        if tried:
            assert steps[0].remedy.modules == ("1",)
