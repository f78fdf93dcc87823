"""Names that end in a number say on every face what they stand for, and are kept as they are in the data."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.show import words
from graddoctor.show.html import to_html
from graddoctor.show.markdown import to_markdown
from graddoctor.show.names import BESIDE, became, called, readable, trimmed
from graddoctor.show.notebook import notebook_html
from graddoctor.show.report import Part, Report, Row, Waterfall
from graddoctor.show.save import save
from graddoctor.show.serial import to_dict
from graddoctor.show.text import print_report, to_text
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity

CLASSES = {
    "0": "Conv2d",
    "1": "BatchNorm2d",
    "2": "ReLU",
    "3": "MaxPool2d",
    "4": "Block",
    "4.conv": "Conv2d",
    "4.0": "Linear",
    "5": "Tanh",
    "6": "Linear",
    "head": "Linear",
}


def title(name, modules=(), classes=CLASSES):
    row = Row(name, "layer", -1.0, modules)
    (row,) = readable(Report("net", "sick", "", budget=Waterfall((row,), -1.0), classes=classes)).budget.rows
    return row.name


@pytest.mark.parametrize(
    ("name", "modules", "shown"),
    [
        ("0", ("0",), "0 · Conv2d"),
        ("0", ("0", "1", "2"), "0 · Conv2d → BatchNorm2d → ReLU"),
        ("0", ("0", "2", "1", "3"), "0 · Conv2d → BatchNorm2d → ReLU → …"),
        ("4", ("4.conv", "4.0", "5"), "4 · Block → Tanh"),
        ("4.0", ("4.0", "4"), "4.0 · Linear"),
        ("6", ("6", "5"), "6 · Linear"),  # what comes before it does not follow it
        ("6 (2)", ("6",), "6 (2) · Linear"),
        ("head", ("head", "5"), "head"),
        ("7", ("7",), "7"),
        ("0 + 6", ("0", "6"), "0 + 6"),
        ("3 smaller rows", (), "3 smaller rows"),
    ],
)
def test_a_row_says_what_its_number_is_and_what_follows(name, modules, shown):
    assert title(name, modules) == shown


@pytest.mark.parametrize(
    ("name", "shown"), [("6", "6 (Linear)"), ("4.0", "4.0 (Linear)"), ("head", "head"), ("9", "9")]
)
def test_running_text_uses_brackets(name, shown):
    assert called(name, CLASSES) == shown


def test_without_classes_nothing_changes(sick, healthy):
    assert readable(sick) is sick
    assert readable(replace(healthy, classes={"head": "Linear"})) == replace(healthy, classes={"head": "Linear"})


def test_reading_twice_is_reading_once(numbered):
    once = readable(numbered)
    assert readable(once) == once


def test_everything_that_names_a_module_says_what_it_is(numbered):
    report = readable(numbered)
    finding = report.findings[0]
    assert finding.modules[:2] == ("layers.1 (Sigmoid)", "layers.3 (Sigmoid)")
    assert finding.causes[1].modules == ("layers.0 (Linear)", "layers.2 (Linear)")
    assert report.budget.rows[1].name == "layers.2 · Linear → Sigmoid"
    assert report.budget.rows[1].modules == ("layers.2 (Linear)", "layers.3 (Sigmoid)")
    assert report.heat.names == tuple(row.name for row in report.budget.rows)
    assert report.activations[0].name == "layers.1 · Sigmoid"
    assert [one.modules for one in report.budget.losses] == [
        ("layers.26 (Linear)",),
        ("side",),
        ("layers.26 (Linear)",),
    ]


def test_parts_the_end_of_a_chain_and_notes_too():
    inner = Part("6", "weight", -1.0)
    rows = (Row("6", "layer", None, ("6",), parts=(Part("branch", "branch", parts=(inner,)),)),)
    note = Finding(Condition.SATURATION, Severity.NOTE, ("5",), (Blame(Cause.ACTIVATION, ("5",)),), summary="Flat.")
    report = readable(
        Report("net", "sick", "", notes=(note,), budget=Waterfall(rows, 0.0, cut="6", cut_kind="zero"), classes=CLASSES)
    )
    assert report.budget.rows[0].parts[0].parts[0].name == "6 · Linear"
    assert report.budget.cut == report.budget.rows[0].name == "6 · Linear"
    assert words.note(report.notes[0]) == "Saturation in 5 (Tanh): Flat."
    assert "ends at 6 · Linear" in words.budget(report.budget)


def test_the_data_keep_the_names_that_pytorch_knows(numbered):
    data = to_dict(numbered)
    assert data["findings"][0]["modules"][0] == "layers.1"
    assert data["budget"]["rows"][1]["name"] == "layers.2"
    assert data["classes"]["layers.1"] == "Sigmoid"
    assert data["budget"]["losses"][1] == {"name": "mse_loss", "share": -0.2, "modules": ["side"]}


FACES = {
    "text": (to_text, "layers.0 - Linear -> Sigmoid"),
    "markdown": (to_markdown, "layers.0 · Linear → Sigmoid"),
    "html": (to_html, 'title="layers.0 · Linear → Sigmoid">layers.0<small>Linear → Sigmoid</small>'),
    "notebook": (notebook_html, "layers.0 · Linear → Sigmoid"),
}


@pytest.mark.parametrize("face", FACES)
def test_every_face_shows_it(numbered, face):
    make, row = FACES[face]
    shown = make(numbered)
    assert row in shown
    assert "layers.1 (Sigmoid)" in shown
    flat = " ".join(shown.split())
    assert "cross entropy of layers.26 (Linear) 110 %" in flat.replace("\\", "")
    assert "A negative share works against the others." in flat


def test_pictures_show_it(numbered, tmp_path):
    assert "layers.0 · Linear → Sigmoid" in save(numbered, tmp_path / "budget.svg").read_text()


def test_charts_of_the_page_show_it(numbered):
    html = to_html(numbered)
    specs = json.loads(html.split('id="specs">')[1].split("</script>")[0])
    for chart, name in (("heat", "layers.0 · Linear → Sigmoid"), ("distributions", "layers.1 · Sigmoid")):
        assert name in json.dumps(specs[chart], ensure_ascii=False)


def test_a_terminal_leaves_room_for_bars(numbered, capsys):
    print_report(numbered, width=60)
    shown = capsys.readouterr().out
    assert "  0 - Linear -> Sigmoid " in shown
    assert "  26 - Linear -> ... " in shown


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (40, "12 · Conv2d → BatchNorm2d → ReLU → …"),
        (34, "12 · Conv2d → BatchNorm2d → …"),
        (16, "12 · Conv2d → …"),
        (12, "12"),
        (1, "12"),
    ],
)
def test_what_stands_beside_goes_before_the_name_does(width, shown):
    assert trimmed("12 · Conv2d → BatchNorm2d → ReLU → …", width) == shown


@given(st.text(), st.lists(st.text("abc", min_size=1), min_size=1, max_size=4), st.integers(0, 50))
def test_trimming_keeps_the_name_whole(name, kinds, width):
    name = name.replace(BESIDE, "")
    whole = name + BESIDE + " → ".join(kinds)
    short = trimmed(whole, width)
    assert short.startswith(name)
    assert len(short) <= max(width, len(name))
    assert short == whole or len(whole) > width


def test_a_column_of_names_keeps_the_numbers():
    names = [f"model.decoder.layers.{i} · TransformerEncoderLayer → LayerNorm" for i in range(12)]
    assert words.fitted(names, 34)[11] == "11 · TransformerEncoderLayer → …"


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("7 · Linear → Sigmoid", "7 · Linear → ReLU", "7 · Linear → Sigmoid » ReLU"),
        ("7 · Linear → Sigmoid", "7 · Linear → Sigmoid", "7 · Linear → Sigmoid"),
        ("7 · Linear", "7 · Linear → ReLU", "7 · Linear » Linear → ReLU"),
        ("7 · Linear", None, "7 · Linear"),
        (None, "7 · Norm", "7 · Norm"),
        ("head", "head", "head"),
    ],
)
def test_what_a_row_was_and_what_it_became(before, after, shown):
    assert became(before, after) == shown


@pytest.mark.parametrize(
    ("width", "shown"),
    [(40, "7 · Linear → Sigmoid » ReLU"), (20, "7 · … » ReLU"), (11, "7"), (3, "7")],
)
def test_what_it_became_is_said_as_long_as_there_is_room(width, shown):
    assert trimmed("7 · Linear → Sigmoid » ReLU", width) == shown
