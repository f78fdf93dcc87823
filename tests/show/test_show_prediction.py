"""The faces of a prediction."""

import dataclasses
import json
import math
import typing
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
from referencing import Registry, Resource
from torch import nn

import graddoctor as gd
from graddoctor.show import from_json, to_json, to_markdown, to_text
from graddoctor.show.compose import waterfall
from graddoctor.show.html import to_html
from graddoctor.show.ledger import ledger
from graddoctor.show.notebook import mimebundle
from graddoctor.show.pictures import picture
from graddoctor.show.prediction import Lag, PredictionReport
from graddoctor.show.prediction_charts import phase_chart, prediction_chart
from graddoctor.show.report import Waterfall
from graddoctor.show.serial import to_dict


@pytest.fixture(scope="module")
def stack():
    return gd.predict(depth=30, activation="tanh", weight_std=1.3, bias_std=0.1).report()


@pytest.fixture(scope="module")
def dead():
    return gd.predict(depth=3, weight_std=0.0).report()


@pytest.fixture(scope="module")
def network(stack):
    lags = (Lag("cell", "LSTM", -0.2, 0.5, 5.0), Lag("irnn", "RNN_RELU", math.nan, 0.0, math.inf))
    return replace(stack, recurrent=lags, unknown=("odd<b>.module",), plain=False, scatter=None, correlation_scale=None)


@pytest.fixture(params=["stack", "dead", "network"])
def report(request):
    return request.getfixturevalue(request.param)


def test_every_face_tells_the_verdict(report):
    assert to_text(report).startswith(report.verdict.upper())
    assert to_markdown(report).startswith(f"# {report.verdict.capitalize()}")
    page = to_html(report)
    assert f'<span class="word">{report.verdict.capitalize()}</span>' in page
    assert "<b>" not in page.replace("<body>", "")
    assert report.headline in page
    assert set(mimebundle(report)) == {"text/plain", "text/markdown", "text/html"}


def test_the_numbers_are_told(stack, network):
    text = to_text(stack)
    assert "chaotic" in text
    assert "chi_1 = " in text
    assert "1.123/sqrt(fan_in), biases 0.05" in text
    told = " ".join(to_text(network).split())
    assert "cell (LSTM): -0.200 decades a step back in time, gates 50 % open; a decade is lost after 5 steps" in told
    assert "irnn (RNN_RELU): its recurrent weights are no random matrix" in told
    assert "No theory here for odd<b>.module: the gain is measured on the first batch." in told


def test_the_json_comes_back(report):
    again = from_json(to_json(report))
    assert isinstance(again, PredictionReport)
    assert to_json(again) == to_json(report)


@pytest.fixture(scope="module")
def schema():
    files = ("schema.json", "prediction.schema.json")
    found = {file: json.loads(resources.files("graddoctor.show").joinpath(file).read_text()) for file in files}
    registry = Registry().with_resources([(file, Resource.from_contents(one)) for file, one in found.items()])
    jsonschema.Draft202012Validator.check_schema(found["prediction.schema.json"])
    return jsonschema.Draft202012Validator(found["prediction.schema.json"], registry=registry)


def test_the_json_keeps_to_its_schema(report, schema):
    schema.validate(to_dict(report))
    for name, wrong in (("verdict", "sick"), ("phase", "wet"), ("total", "much"), ("kind", "cure"), ("depth", 1.5)):
        assert not schema.is_valid({**to_dict(report), name: wrong}), name


def test_the_schema_knows_every_member(schema):
    defined = {"PredictionReport": schema.schema, **schema.schema["$defs"]}
    assert len(defined) == 6
    for name, told in defined.items():
        cls = getattr(__import__("graddoctor.show.prediction", fromlist=[name]), name)
        assert set(told["properties"]) == {field.name for field in dataclasses.fields(cls)} | {"nonfinite"}
        assert set(told["required"]) == set(typing.get_type_hints(cls))


def test_the_phase_diagram_has_the_edge_the_phases_and_the_layers(stack):
    spec = phase_chart(stack.diagram).to_dict()
    rows = {layer["mark"]["type"]: layer["data"] for layer in spec["layer"]}
    rows = {mark: data.get("values") or spec["datasets"][data["name"]] for mark, data in rows.items()}
    assert len(rows["rect"]) == 40 * 26
    assert {row["name"] for row in rows["text"]} == {"ordered", "chaotic"}
    assert rows["line"][0] == {"w": 1.0, "b": 0.0, "place": 0}
    (point,) = rows["circle"]
    assert point["name"] == "the stack"
    assert (point["w"], point["b"]) == (1.3, 0.1)


def test_a_single_critical_point_is_a_mark():
    spec = phase_chart(gd.predict(depth=3, activation="relu").report().diagram).to_dict()
    assert any(layer["mark"].get("shape") == "diamond" for layer in spec["layer"])


def test_the_picture_is_the_budget_beside_the_diagram(stack):
    assert len(picture(stack).to_dict()["hconcat"]) == 2
    assert "hconcat" not in prediction_chart(None, stack.budget).to_dict()
    assert prediction_chart(None, None) is None


def test_names_of_a_sequential_say_what_they_are(stack):
    budget = replace(stack.budget, rows=(replace(stack.budget.rows[0], name="0"),))
    assert "0 - Linear" in to_text(replace(stack, classes={"0": "Linear"}, budget=budget))


class TestOverlay:
    """Predicted decades beside the measured ones, in every report of a check."""

    @pytest.fixture
    def both(self):
        budget = gd.predict(depth=4, activation="sigmoid", weight_std=1.0).budget
        return waterfall(budget, budget)

    def test_rows_get_what_was_expected_of_them(self, both):
        assert [row.predicted_decades for row in both.rows] == [row.decades for row in both.rows]
        assert both.predicted_total == pytest.approx(both.total)

    def test_without_a_prediction_nothing_is_told(self):
        budget = gd.predict(depth=4).budget
        plain = waterfall(budget)
        assert plain.predicted_total is None
        assert {row.predicted_decades for row in plain.rows} == {None}

    def test_a_tick_on_the_page_tells_where_theory_ends_a_row(self, both, sick):
        rows = tuple(replace(row, predicted_decades=2 * row.decades) for row in both.rows)
        drawn = ledger(replace(both, rows=rows), 99, 9)
        assert drawn.foreseen
        for line in drawn.lines:
            (bar,) = line.bars
            assert bar.expected == pytest.approx(max(bar.begin - bar.length, 0), abs=0.05)  # twice as far to the left
        page = to_html(sick)
        assert page.count("<b style=") == len(ledger(sick.budget, 99, 9).lines)
        assert "A tick tells where theory ends the row." in page
        alone = replace(sick.budget, rows=tuple(replace(row, predicted_decades=None) for row in sick.budget.rows))
        assert "<b style=" not in (plain := to_html(replace(sick, budget=alone)))
        assert "A tick tells" not in plain

    def test_every_face_shows_it(self, both, sick):
        report = replace(sick, budget=both)
        assert "theory" in to_text(report)
        assert "| theory |" in to_markdown(report)
        assert "theory expects" in to_html(report)
        plain = replace(sick, budget=Waterfall(both.rows[:0], 0.0))
        assert "theory" not in to_text(plain)

    def test_the_chart_marks_it(self, both, sick):
        marks = json.dumps(picture(replace(sick, budget=both)).to_dict())
        assert "expected by theory" in marks
        assert "expected by theory" not in json.dumps(picture(sick).to_dict())


def test_unknown_activations_have_no_diagram():
    far = gd.predict(depth=3, activation=nn.Tanh(), weight_std=40.0).report()
    assert far.diagram is None
    assert "hconcat" not in picture(far).to_dict()
