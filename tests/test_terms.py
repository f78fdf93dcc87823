"""The words of a diagnosis survive what is done with them, and each one explains itself."""

import copy
import pickle

import cloudpickle
import pytest

from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial

MEMBERS = [*Condition, *Cause]


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_a_member_explains_itself_in_one_sentence(member):
    assert member.sentence == member.__doc__
    assert member.sentence[0].isupper()
    assert member.sentence.endswith(".")
    assert ". " not in member.sentence
    assert len(member.sentence) <= 120
    assert member.sentence not in {type(member).__doc__, *(other.sentence for other in MEMBERS if other is not member)}


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_a_member_is_found_by_its_value_and_survives_copies(member):
    assert member.value == member.name.lower()
    for again in (
        type(member)(member.value),
        type(member)[member.name],
        copy.deepcopy(member),
        pickle.loads(pickle.dumps(member)),  # noqa: S301 - what was written a line ago
        cloudpickle.loads(cloudpickle.dumps(member)),
    ):
        assert again is member


@pytest.mark.parametrize("kind", [Condition, Cause])
def test_the_enumerations_are_closed(kind):
    with pytest.raises(ValueError, match="hiccups"):
        kind("hiccups")
    with pytest.raises(TypeError):
        kind("vanishing", "another sentence")


def test_a_note_is_the_least():
    assert Severity.NOTE < Severity.WARNING < Severity.CRITICAL


def test_a_finding_is_confirmed_by_a_trial_that_helped():
    trial = Trial("re-initialised", Cause.INITIALIZATION, steps=40, progress=0.9, gain=0.8)
    finding = Finding(Condition.VANISHING, Severity.CRITICAL, causes=(Blame(Cause.INITIALIZATION),), trials=(trial,))
    assert not finding.confirmed
    helped = Trial("re-initialised", Cause.INITIALIZATION, steps=40, progress=0.9, gain=0.8, helped=True)
    assert Finding(Condition.VANISHING, Severity.CRITICAL, trials=(trial, helped)).confirmed
