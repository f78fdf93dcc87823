"""Reports as JSON: what goes out comes back, and what comes in broken is told apart from a report."""

import dataclasses
import json
import math
import types
import typing
from importlib import resources

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graddoctor.errors import GraddoctorError
from graddoctor.show import report as forms
from graddoctor.show.report import Coverage, LossCurve, Report
from graddoctor.show.serial import from_dict, from_json, load, to_dict, to_json
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity

NAMES = ["sick", "numbered", "healthy", "inconclusive", "cut", "huge"]


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(resources.files("graddoctor.show").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def same(one, other):
    """Equal, NaN included."""
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)
        )
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return one == other


@pytest.mark.parametrize("name", NAMES)
def test_a_report_comes_back_as_it_was(name, request):
    report = request.getfixturevalue(name)
    assert same(from_json(to_json(report)), report)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_json_keeps_to_the_schema(name, request, validator):
    validator.validate(to_dict(request.getfixturevalue(name)))


def test_the_schema_can_say_no(sick, validator):
    for path, wrong in [
        (("verdict",), "fine"),
        (("schema",), 2),
        (("findings", 0, "condition"), "flu"),
        (("findings", 0, "severity"), 2),
        (("budget", "rows", 0, "decades"), "-1"),
    ]:
        data = to_dict(sick)
        place = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = wrong
        assert not validator.is_valid(data), path


def dataclasses_under(cls, seen):
    if dataclasses.is_dataclass(cls) and cls not in seen:
        seen.add(cls)
        for hint in typing.get_type_hints(cls).values():
            dataclasses_under(hint, seen)
    for argument in typing.get_args(cls):
        dataclasses_under(argument, seen)
    return seen


def test_the_schema_knows_every_member_of_every_form(validator):
    schema = validator.schema
    for cls in dataclasses_under(Report, set()):
        told = schema if cls is Report else schema["$defs"][cls.__name__]
        derived = {"nonfinite"} | ({"confirmed"} if cls is Finding else set())
        assert set(told["properties"]) == {f.name for f in dataclasses.fields(cls)} | derived, cls


def test_the_public_shape_is_the_one_that_is_promised(sick):
    data = json.loads(to_json(sick))
    assert next(iter(data)) == "schema"
    assert data["schema"] == 1
    assert data["verdict"] == "sick"
    finding = data["findings"][0]
    assert (finding["condition"], finding["severity"]) == ("vanishing", "critical")
    assert finding["causes"][0]["kind"] == "activation"
    assert finding["modules"][0] == "layers.1"
    assert math.isclose(math.fsum(row["decades"] for row in data["budget"]["rows"]), data["budget"]["total"])


def test_what_json_cannot_hold_is_null_with_a_flag(cut):
    finding = to_dict(cut)["findings"][0]
    assert finding["numbers"] == {"dead_share": 1.0, "loss_last": None, "largest_weight": None}
    assert finding["nonfinite"] == {"/numbers/loss_last": "nan", "/numbers/largest_weight": "inf"}
    assert finding["causes"][0]["nonfinite"] == {"/share": "nan"}


texts = st.text(max_size=20)
floats = st.floats(allow_nan=True, allow_infinity=True)
grids = st.lists(st.tuples(texts, st.tuples(floats, floats)), max_size=3)


def gridded(make):
    return grids.map(lambda rows: make([name for name, _ in rows], (0, 5), [row for _, row in rows]))


DRAWN = {
    str: texts,
    float: floats,
    int: st.integers(0, 10**9),
    bool: st.booleans(),
    forms.Part: st.builds(forms.Part, texts, texts, floats, floats),
    forms.HeatMap: gridded(forms.HeatMap.from_norms),
    forms.UpdateRatios: gridded(forms.UpdateRatios.from_ratios),
    forms.LossCurve: st.lists(floats, max_size=50).map(LossCurve.from_values),
    forms.ActivationState: st.builds(forms.ActivationState, st.integers(0, 9), floats, floats, floats),
}


def anything(hint):
    """Draw what a form may hold, from its type."""
    if hint in DRAWN:
        return DRAWN[hint]
    if typing.get_origin(hint) is not None:
        return anything_within(typing.get_origin(hint), typing.get_args(hint))
    if not dataclasses.is_dataclass(hint):
        return st.sampled_from(list(hint))
    hints = {name: one for name, one in typing.get_type_hints(hint).items() if name != "schema"}
    return st.fixed_dictionaries({name: anything(one) for name, one in hints.items()}).map(lambda kept: hint(**kept))


def anything_within(origin, arguments):
    if origin in {types.UnionType, typing.Union}:
        return st.none() | anything(next(one for one in arguments if one is not type(None)))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is not tuple:
        return st.dictionaries(texts, anything(arguments[1]), max_size=2)
    if arguments[-1] is Ellipsis:
        return st.lists(anything(arguments[0]), max_size=2).map(tuple)
    return st.tuples(*map(anything, arguments))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(anything(Report))
def test_any_report_comes_back(validator, report):
    text = to_json(report)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert same(from_json(text), report)
    validator.validate(json.loads(text))


def test_numbers_of_numpy_are_numbers():
    report = Report("net", "healthy", "ok", coverage=Coverage(np.int64(3), seconds=np.float32(0.5)))
    back = from_json(to_json(report))
    assert (back.coverage.steps_seen, back.coverage.seconds) == (3, 0.5)


def test_members_of_the_future_are_passed_over(sick):
    data = to_dict(sick)
    data["mood"] = "good"
    data["findings"][0]["colour"] = "red"
    assert from_dict(data) == sick


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "it is not JSON"),
        ("[1, 2]", 'expected a JSON object with "schema" and "verdict"'),
        ('{"schema": 99, "verdict": "sick"}', "upgrade graddoctor"),
        ('{"schema": 1, "verdict": "sick", "headline": ""}', "/title is missing"),
        ('{"schema": 1, "title": "", "verdict": "odd", "headline": ""}', "/verdict should be one of"),
        (
            '{"schema": 1, "title": "", "verdict": "sick", "headline": "", "ruled_out": [3]}',
            "/ruled_out/0 should be a str",
        ),
        (
            '{"schema": 1, "title": "", "verdict": "sick", "headline": "", "events": [{"step": true, "text": ""}]}',
            "/events/0/step should be a whole number, got True",
        ),
    ],
)
def test_what_is_no_report_is_said_in_one_line(text, told):
    with pytest.raises(GraddoctorError) as caught:
        from_json(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loading_tells_missing_and_binary_files(tmp_path, healthy):
    path = tmp_path / "checkup.json"
    with pytest.raises(GraddoctorError, match=r"cannot read the report '.*checkup.json'"):
        load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GraddoctorError, match="cannot read the report"):
        load(path)
    path.write_text(to_json(healthy))
    assert load(path) == healthy


def test_shares_that_were_never_measured_stay_nan():
    blame = Blame(Cause.LOSS)
    report = Report("net", "sick", "why", (Finding(Condition.PLATEAU, Severity.WARNING, causes=(blame,)),))
    assert math.isnan(from_json(to_json(report)).findings[0].causes[0].share)
