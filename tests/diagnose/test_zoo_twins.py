"""Quick patients of the zoo and their sound twins, one a way of falling ill: found on the one, silent on the other."""

import pytest

from graddoctor.diagnose.examine import examine
from graddoctor.terms import Condition, Severity
from graddoctor.testing import patient, zoo

PATIENTS = (
    "init_normal_huge",
    "init_bias_kills_layer",
    "act_sigmoid_mlp",
    "input_loader_bytes",
    "output_relu_regression",
    "rate_sgd_low",
    "rate_sgd_high",
    "momentum_high",
    "schedule_decays_at_once",
    "clip_parameter_hook",
    "precision_autocast_half",
    "graph_detached_body",
    "batch_sorted_labels",
    "numeric_constant_column",
)
SOUND = ("sound_unused_head", "sound_log_softmax_twice", "sound_clipped_always", "sound_frozen_backbone")


def alarms(examination):
    return [finding for finding in examination.findings if finding.severity > Severity.NOTE]


@pytest.mark.parametrize("name", PATIENTS)
def test_a_patient_is_told_apart_from_its_twin(name):
    one = patient(name)
    found = examine(one.recipe)
    first = alarms(found)[0]
    assert {first.condition, *first.consequences} & one.conditions
    if name == "numeric_constant_column":  # NaN at once: no change undoes it, yet it is certain what makes it
        assert (first.condition, found.verdict) == (Condition.NON_FINITE, "sick")
        assert "by div in the network" in first.detail
    else:
        assert first.causes[0].kind in one.causes
        assert found.verdict == "sick"
        assert first.confirmed
        assert any(trial.helped and trial.cause is first.causes[0].kind for trial in found.trials)
    well = examine(one.twin)
    assert well.findings == ()
    assert well.verdict == "healthy"


@pytest.mark.parametrize("name", SOUND)
def test_what_looks_worse_than_it_is_raises_no_alarm(name):
    found = examine(patient(name).recipe)
    assert alarms(found) == []
    assert found.verdict == "healthy"


def test_the_patients_stand_for_many_families():
    assert len({patient(name).family for name in PATIENTS}) >= 11
    assert {one.family for one in zoo(kind="sick")} >= {patient(name).family for name in PATIENTS}
