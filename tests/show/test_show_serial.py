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
from cures import CURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource

from graddoctor.errors import GraddoctorError
from graddoctor.show import report as forms
from graddoctor.show.cure import CureReport
from graddoctor.show.report import Coverage, LossCurve, Report
from graddoctor.show.serial import from_dict, from_json, load, to_dict, to_json
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity

NAMES = ["sick", "numbered", "healthy", "inconclusive", "cut", *CURES, "huge"]


@pytest.fixture(scope="module")
def validators():
    """A validator for each kind of report; the schema of cures refers to the other by its file's name."""
    files = ("schema.json", "cure.schema.json")
    schemas = {file: json.loads(resources.files("graddoctor.show").joinpath(file).read_text()) for file in files}
    registry = Registry().with_resources([(file, Resource.from_contents(one)) for file, one in schemas.items()])
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    checkup, cure = (jsonschema.Draft202012Validator(schema, registry=registry) for schema in schemas.values())
    return {Report: checkup, CureReport: cure}


@pytest.fixture(scope="module")
def validator(validators):
    return validators[Report]


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
def test_the_json_keeps_to_the_schema(name, request, validators):
    report = request.getfixturevalue(name)
    validators[type(report)].validate(to_dict(report))


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


def test_the_schema_of_cures_can_say_no_too(cured, validators):
    for path, wrong in [
        (("kind",), "checkup"),
        (("verdict",), "sick"),
        (("remedies", 0, "causes", 0), "flu"),
        (("proof", "verdict"), "good"),
        (("proof", "pairs", 0, "before"), "0.1"),
        (("race", "rungs", 0, "entries", 0, "kept"), 1),
        (("budgets", "after", "rows", 0, "decades"), "-1"),
        (("checkup", "verdict"), "cured"),
    ]:
        data = to_dict(cured)
        place = data
        for key in path[:-1]:
            place = place[key]
        assert path[-1] in place or isinstance(path[-1], int)
        place[path[-1]] = wrong
        assert not validators[CureReport].is_valid(data), path


def dataclasses_under(cls, seen):
    if dataclasses.is_dataclass(cls) and cls not in seen:
        seen.add(cls)
        for hint in typing.get_type_hints(cls).values():
            dataclasses_under(hint, seen)
    for argument in typing.get_args(cls):
        dataclasses_under(argument, seen)
    return seen


def test_the_schema_knows_every_member_of_every_form(validators):
    checkups, cures = validators[Report].schema, validators[CureReport].schema
    defined = {**checkups["$defs"], **cures["$defs"], "Report": checkups, "CureReport": cures}
    for cls in dataclasses_under(CureReport, set()):
        told = defined[cls.__name__]
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


def test_a_cure_says_first_that_it_is_one(cured, not_cured):
    data = json.loads(to_json(cured))
    assert list(data)[:2] == ["schema", "kind"]
    assert (data["schema"], data["kind"], data["verdict"]) == (1, "cure", "cured")
    assert data["checkup"]["verdict"] == "sick"
    assert data["remedies"][0]["causes"] == ["activation"]
    pair = to_dict(not_cured)["proof"]["pairs"][2]
    assert (pair["after"], pair["nonfinite"]) == (None, {"/after": "nan"})


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


def profiled(step, pairs):
    lags, decades = zip(*pairs, strict=True) if pairs else ((), ())
    return forms.LagProfile(step, lags, decades, decades[0] if pairs else 0.0, 0.5, 1, None, lags, {"forget": decades})


DRAWN = {
    str: texts,
    float: floats,
    int: st.integers(0, 10**9),
    bool: st.booleans(),
    forms.Part: st.builds(forms.Part, texts, texts, floats, floats),
    forms.HeatMap: gridded(forms.HeatMap.from_norms),
    forms.UpdateRatios: gridded(forms.UpdateRatios.from_ratios),
    forms.LossCurve: st.lists(floats, max_size=50).map(LossCurve.from_values),
    forms.LagProfile: st.builds(
        profiled, st.integers(0, 9), st.lists(st.tuples(st.integers(0, 99), floats), max_size=4)
    ),
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
@given(anything(Report) | anything(CureReport))
def test_any_report_comes_back(validators, report):
    text = to_json(report)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert same(from_json(text), report)
    validators[type(report)].validate(json.loads(text))


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
        ('{"schema": 2, "kind": "cure", "verdict": "cured"}', "upgrade graddoctor"),
        ('{"schema": 1, "kind": "autopsy", "verdict": "dead"}', "kind 'autopsy', this graddoctor reads checkup, cure"),
        ('{"schema": 1, "kind": [], "verdict": "dead"}', "kind [], this"),
        ('{"schema": 1, "kind": "cure", "verdict": "cured", "title": "", "headline": ""}', "/checkup is missing"),
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
