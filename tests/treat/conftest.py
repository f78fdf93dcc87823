"""What several tests of treatments need."""

import pytest
from made_up import prescriber

from graddoctor.remedies.pharmacy import PHARMACY
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause


@pytest.fixture
def pharmacy(monkeypatch):
    """A pharmacy that holds only what it is told to: made-up remedies, and prescribers."""

    def only(**held):
        for cause in Cause:
            found = held.get(cause.value, ())
            made_up = [one for one in found if isinstance(one, Remedy)]
            others = [one for one in found if not isinstance(one, Remedy)]
            monkeypatch.setitem(PHARMACY, cause, (prescriber(*made_up), *others))

    only()
    return only
