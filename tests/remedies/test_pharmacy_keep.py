"""What is to be kept: no remedy that is against it, or edits it, is allowed."""

import pytest

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.pharmacy import KEEPABLE, respects
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


def remedy(cause, part):
    return Remedy.written(f"{cause.value} in the {part}", (cause,), [Edit(part, len)])


@pytest.mark.parametrize(
    ("cause", "part", "kept"),
    [
        (Cause.ACTIVATION, "model", {"architecture"}),
        (Cause.NORMALIZATION, "model", {"architecture"}),
        (Cause.INITIALIZATION, "model", {"weights"}),
        (Cause.LEARNING_RATE, "optimizer", {"optimizer"}),
        (Cause.SCHEDULE, "epochs", {"optimizer"}),
        (Cause.WEIGHT_DECAY, "optimizer", {"optimizer"}),
        (Cause.WEIGHT_DECAY, "loss", {"optimizer", "loss"}),
        (Cause.GRAPH, "optimizer", {"optimizer"}),
        (Cause.PRECISION, "loss", set()),
        (Cause.PRECISION, "optimizer", {"optimizer"}),
        (Cause.TARGET_SCALE, "loss", {"loss", "data"}),
        (Cause.INPUT_SCALE, "model", {"data"}),
        (Cause.BATCHING, "batches", {"data"}),
    ],
)
def test_what_a_remedy_does_not_leave_alone(cause, part, kept):
    one = remedy(cause, part)
    assert {name for name in KEEPABLE if not respects(one, [name])} == kept
    assert respects(one, ()) is True
    assert respects(one, KEEPABLE) is (not kept)


def test_a_combination_is_as_its_parts():
    both = remedy(Cause.PRECISION, "loss").then(remedy(Cause.WEIGHT_DECAY, "loss"))
    assert not respects(both, ["loss"])
    assert respects(both, ["data", "weights", "architecture"])
