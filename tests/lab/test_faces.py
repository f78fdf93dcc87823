"""The lab in the terminal, as a page, as Markdown, JSON and pictures."""

import dataclasses
import json
import math
import typing
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest

from graddoctor import lab
from graddoctor.errors import GraddoctorError
from graddoctor.show import LabReport, from_json, notebook_html, to_dict, to_json, to_markdown, to_text
from graddoctor.show import lab as nouns
from graddoctor.show import lab_words as told
from graddoctor.show.html import to_html
from graddoctor.show.lab_charts import lab_chart, lab_picture
from graddoctor.show.lab_html import whisker
from graddoctor.show.pictures import picture
from lab_toys import broken, toy


@pytest.fixture(scope="module")
def one():
    return lab.run(toy(), workers=0)


@pytest.fixture(scope="module")
def several():
    toys = [toy("first"), toy("<b>second", verdict="not reproduced"), toy("third", measure=broken), toy("fourth")]
    return replace(lab.run(*toys, workers=0, quick=True), missing=("fifth",))


def test_one_is_told_in_full(one):
    text = to_text(one)
    assert text.splitlines()[0] == "REPRODUCED  A toy"
    words = " ".join(text.split())
    for part in ("A layer takes a decade.", "Nobody 1999, table 1", "1 decade a layer", "Count your layers."):
        assert part in words
    assert "holds A layer takes half. mean 1, 95 % interval" in words
    assert "wanted: above 0.5 decades" in words
    assert "Control: It starts with five." in words
    assert "3 seeds each, 9 runs" in words


def test_many_are_told_in_a_line_each(several):
    text = " ".join(to_text(several).split())
    assert text.startswith("DIFFERENT")
    assert "Of 4 claims, 3 reproduced, 1 inconclusive. Other than foreseen: <b>second, third." in text
    assert "reproduced (foreseen: not reproduced)" in text
    assert "Not finished: fifth." in text
    assert "A quick look" in text


def test_markdown_cannot_be_broken_out_of(several, one):
    text = to_markdown(several)
    assert r"\<b\>second" in text
    assert "<b>" not in text
    assert "The experiment failed: ValueError: no such depth" in text
    assert "| A layer takes half. | holds | 1 |" in to_markdown(one)


def test_the_page_has_every_experiment_and_its_verdict(several, one):
    page = to_html(several)
    assert "<b>second" not in page
    assert page.count("<section id=") == 5
    assert page.count("data-chart=") == 6
    assert len(page.encode()) < 1_500_000
    single = to_html(one)
    assert '<header class="verdict reproduced">' in single
    assert "Dashed: what theory expects." in single
    for experiment in one.experiments:
        assert experiment.lesson in single


def test_a_notebook_needs_no_script(one):
    shown = notebook_html(one)
    assert "<script" not in shown
    assert "Count your layers." in shown


def test_the_json_comes_back_and_keeps_to_its_schema(one, several):
    schema = json.loads(resources.files("graddoctor.show").joinpath("lab.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (one, several):
        jsonschema.validate(to_dict(report), schema)
        again = from_json(to_json(report))
        assert isinstance(again, LabReport)
        assert again == report
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**to_dict(one), "verdict": "sick"}, schema)
    for name, form in {"LabReport": schema, **schema["$defs"]}.items():
        cls = getattr(nouns, name)
        assert set(form["properties"]) == {field.name for field in dataclasses.fields(cls)} | {"nonfinite"}
        assert set(form["required"]) == set(typing.get_type_hints(cls))


def test_a_picture_is_the_first_chart_of_one_experiment(one, several):
    assert picture(one).to_dict()["layer"]
    with pytest.raises(GraddoctorError, match="no one chart to draw"):
        picture(several)


def _rows(spec):
    return spec["data"].get("values") or spec["datasets"][spec["data"]["name"]]


class TestCharts:
    """What is drawn is what was measured."""

    def test_means_and_their_spread(self, one):
        spec = lab_picture(one.experiments[0]).to_dict()
        area, line, theory = spec["layer"]
        rows = _rows(spec)
        assert [row["x"] for row in rows] == [5.0, 10.0, 20.0]
        assert all(row["low"] <= row["y"] <= row["high"] for row in rows)
        assert [row["expected"] for row in rows] == [5.0, 10.0, 20.0]
        assert area["mark"]["type"] == "area"
        assert line["mark"]["type"] == "line"
        assert theory["mark"]["strokeDash"]
        assert line["encoding"]["x"]["title"] == "depth"

    def test_a_curve_is_drawn_along_its_places(self, one):
        chart = one.experiments[0].charts[1]
        assert [(mark.x, mark.by) for mark in chart.marks[:3]] == [(0.0, "5"), (1.0, "5"), (2.0, "5")]
        spec = lab_chart(chart, chart).to_dict()
        assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"

    def test_what_has_no_logarithm_is_left_out(self, one):
        chart = one.experiments[0].charts[1]
        marks = tuple(replace(mark, y=0.0) if mark.x == 1 else mark for mark in chart.marks)
        rows = _rows(lab_chart(replace(chart, marks=marks), chart).to_dict())
        assert {row["x"] for row in rows} == {0.0, 2.0}

    def test_bars_stand_side_by_side_from_zero(self, one):
        chart = replace(one.experiments[0].charts[1], kind="bars", log_y=False)
        spec = lab_chart(chart, chart).to_dict()
        assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"][0] == 0
        assert spec["layer"][0]["encoding"]["xOffset"]["field"] == "by"

    def test_words_stand_on_the_axis_in_their_order(self, one):
        chart = one.experiments[0].charts[0]
        named = tuple(replace(mark, x_name=name) for mark, name in zip(chart.marks, "cab", strict=True))
        assert lab_chart(*[replace(chart, marks=named)] * 2).to_dict()["layer"][0]["encoding"]["x"]["sort"] == [*"cab"]


def test_a_table_has_a_column_for_each_place(one):
    head, rows = told.table(one.experiments[0].charts[1], 7)
    assert head == ["layer", "0", "1", "2"]
    assert [row[0] for row in rows] == ["5", "10", "20"]
    assert told.table(one.experiments[0].charts[1], 2)[0] == ["layer", "0", "2"]


def test_a_whisker_is_in_its_room_and_in_order(one):
    for answer in one.experiments[0].answers:
        line = whisker(answer)
        assert min(dataclasses.astuple(line)) >= 0
        assert max(dataclasses.astuple(line)) <= 100
        assert line.low <= line.mean <= line.high
        assert (line.bound < line.mean) is answer.above
    assert whisker(replace(answer, high=math.inf)) is None
