"""Topics and reports, explained: what is told to whom, with whose numbers, and on every face."""

import dataclasses
import json
import math
from importlib import resources

import jsonschema
import pytest
import torch
from torch import nn

import graddoctor as gd
from graddoctor import explain
from graddoctor.errors import GraddoctorError
from graddoctor.show import Coverage, Report, from_json, notebook_html, to_dict, to_json, to_markdown, to_text
from graddoctor.show import explanation as nouns
from graddoctor.show.cure import CureReport, Evidence, Prescription
from graddoctor.show.html import to_html
from graddoctor.show.pictures import picture
from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial
from graddoctor.topics import every

SCHEMA = json.loads(resources.files("graddoctor.show").joinpath("explanation.schema.json").read_text())


def finding(**parts):
    given = {
        "condition": Condition.VANISHING,
        "severity": Severity.CRITICAL,
        "modules": ("layers.0", "layers.<b>2"),
        "causes": (Blame(Cause.ACTIVATION, ("layers.1",), 0.93, ("ReLU in place of sigmoid",)),),
        "consequences": (Condition.PLATEAU,),
        "numbers": {"decades_lost": 8.2, "decades_lost_per_layer": 0.82, "step": 0.0, "gain": 0.72},
        "summary": f"{Condition.VANISHING.sentence} Undone, it *learns*.",
        "detail": "It loses 8.2 decades.",
        "trials": (Trial("ReLU in place of sigmoid", Cause.ACTIVATION, 40, 0.8, 0.72, helped=True),),
    }
    return Finding(**{**given, **parts})


@pytest.fixture(scope="module")
def sick():
    note = Finding(Condition.DEAD_UNITS, Severity.NOTE, ("head",), numbers={"dead_share": 0.25})
    return Report("net.py", "sick", "It vanishes.", (finding(),), (note,), ("the rate was not it",))


@pytest.fixture(scope="module")
def told(sick):
    return explain.explained(sick)


def passages(explanation, level=None):
    return {
        (subject.title, one.label): one.text
        for subject in explanation.subjects
        for one in subject.passages
        if level in {None, one.level}
    }


@pytest.mark.parametrize("topic", every(), ids=lambda topic: topic.name)
def test_every_topic_has_every_face(topic):
    explanation = explain.topic(topic.name)
    assert explanation.subjects[0].passages
    assert "](" not in to_text(explanation)
    assert to_markdown(explanation).startswith("## ")
    jsonschema.validate(to_dict(explanation), SCHEMA)
    assert from_json(to_json(explanation)) == explanation


def test_levels_divide_a_topic():
    both, short, deep = (
        explain.topic("vanishing", level).subjects[0].passages for level in (None, "student", "engineer")
    )
    assert {*short, *deep} == {*both}
    assert [one.label for one in short] == ["What it is", "What undoes it", "What does not"]
    assert [one.label for one in deep] == ["Why", "How it is measured here", "Papers"]


def test_a_finding_is_told_with_its_own_numbers(told):
    text = passages(told)
    here = text["Vanishing gradient", "In your network"]
    assert "about 160 million times smaller at the first layer" in here
    assert "hands on 15 % of the gradient" in here
    assert "removed 72 points more" in here
    assert Condition.VANISHING.sentence not in here, "it stands above it already"
    assert r"\*learns\*" in here, "what a report says is no markup"
    assert "gave back 93 % of what was missing" in text["Vanishing gradient", "What causes it"]
    assert text["Vanishing gradient", "What goes away with it"] == "Plateau."
    assert "`layers.<b>2`" in text["Vanishing gradient", "Where"]
    assert "Glorot et al. 2011" in text["Vanishing gradient", "Remedies"]
    assert "25 % of the units are dead" in text["Dead units", "In your network"]


def test_students_read_no_figures_and_engineers_no_analogies(sick):
    short, deep = (passages(explain.explained(sick, level)) for level in ("student", "engineer"))
    assert not {*short} & {*deep}
    assert {label for _, label in deep} >= {"Why", "Where", "Figures", "What was tried", "Papers"}
    assert {label for _, label in short} >= {"What it is", "In your network", "What causes it", "What to do"}


def test_a_real_checkup_is_explained():
    torch.manual_seed(0)
    images, labels = torch.randn(256, 16), torch.randint(0, 4, (256,))
    images[torch.arange(256), labels] += 3

    def build():
        hidden = [layer for _ in range(10) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
        return nn.Sequential(*hidden, nn.Linear(16, 4))

    recipe = gd.Recipe(
        model=build,
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        batches=[*zip(images.split(32), labels.split(32), strict=True)],
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        epochs=10,
    )
    checkup = gd.check(recipe)
    explanation = explain.explained(from_json(checkup.to_json()))
    assert explanation.verdict == "sick"
    text = passages(explanation)
    title = checkup.findings[0].condition.title
    assert "times smaller at the first layer" in text[title, "In your network"]
    assert "decades of gradient are lost" in text[explanation.subjects[0].title, "Where the gradient goes"]
    assert "helped" in text[title, "What was tried"]


def test_healthy_and_undecided_reports_are_explained_too():
    healthy = explain.explained(Report("net.py", "healthy", "It learns."))
    assert "nothing was found" in passages(healthy)["Your network: net.py", "What the verdict means"]
    undecided = explain.explained(Report("net.py", "inconclusive", "It does not.", ruled_out=("the rate",)))
    assert passages(undecided)["Your network: net.py", "What was ruled out"] == "- The rate"


def test_what_was_not_confirmed_is_told(sick):
    explanation = explain.explained(dataclasses.replace(sick, findings=(finding(trials=()),)))
    assert "not confirmed" in passages(explanation)["Vanishing gradient", "What was tried"]


def test_a_cure_is_explained_remedy_by_remedy(sick):
    proof = Evidence("metric", "better", 0.5, 0.4, 0.6, 0.03, sentence="All five seeds gained.")
    remedies = (
        Prescription("ReLU in place of sigmoid", (Cause.ACTIVATION,), "Glorot et al. 2011", "", ("layers.1",)),
        Prescription("a charm of my own", ()),
    )
    cure = CureReport("net.py", "cured", "It learns.", sick, remedies, proof)
    explanation = explain.explained(cure)
    text = passages(explanation)
    assert "exchanged" in text["ReLU in place of sigmoid", "What it does"]
    assert text["A charm of my own", "What fresh seeds say"] == "All five seeds gained."
    assert [subject.kind for subject in explanation.subjects] == ["network", "finding", "note", "remedy", "remedy"]


def test_titles_and_names_of_users_stay_text(sick):
    odd = dataclasses.replace(sick, title="run *3* `x` [a](b)", findings=(finding(modules=("blocks[0](x)",)),))
    explanation = explain.explained(odd)
    assert "Your network: run *3* `x` [a](b)" in to_text(explanation)
    assert "Your network: run *3* `x` [a](b)" in to_html(explanation)
    assert "blocks[0](x)" in to_text(explanation)
    assert "blocks[0](x)" in to_html(explanation)


def test_what_was_not_tried_is_told_apart_from_what_did_not_help(sick):
    bare = (finding(trials=(), causes=()),)
    tried = dataclasses.replace(sick, verdict="inconclusive", findings=bare, trials=finding().trials)
    assert "see what was ruled out" in passages(explain.explained(tried))["Vanishing gradient", "What was tried"]
    untried = dataclasses.replace(sick, findings=bare, coverage=Coverage(experimented=False))
    text = passages(explain.explained(untried))
    assert "No experiment was made" in text["Your network: net.py", "What the verdict means"]
    assert "no experiment was made" in text["Vanishing gradient", "What was tried"]


def test_two_of_one_topic_do_not_share_an_anchor(sick):
    twice = dataclasses.replace(sick, findings=(finding(), finding()))
    names = [subject.name for subject in explain.explained(twice).subjects if subject.name]
    assert len(set(names)) == len(names)


def test_other_reports_are_refused():
    with pytest.raises(GraddoctorError, match="expected the report of a check or a fix, got one of kind 'prediction'"):
        explain.explained(gd.predict(depth=3).report())


def test_faces_escape_what_a_report_says(told):
    page, notebook = to_html(told), notebook_html(told)
    assert "layers.&lt;b&gt;2" in page
    for text in (page, notebook):
        assert "<b>2" not in text
    assert len(page) < 60_000
    assert "IN SHORT" in to_text(told)
    assert to_text(told).startswith("SICK  net.py: It vanishes.")
    assert to_markdown(told).startswith("# Sick: net.py")


def test_json_keeps_to_its_schema_and_comes_back(told):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(to_dict(told), SCHEMA)
    assert from_json(to_json(told)) == told
    forms = {"Explanation": SCHEMA, **SCHEMA["$defs"]}
    for cls in (nouns.Explanation, nouns.Subject, nouns.Passage):
        assert {field.name for field in dataclasses.fields(cls)} == set(forms[cls.__name__]["properties"])


def test_there_is_no_picture_of_it(told):
    with pytest.raises(GraddoctorError, match=r"save it as \.html"):
        picture(told)


def test_numbers_that_are_none_are_left_out(sick):
    one = finding(numbers={"decades_lost": math.nan}, causes=(Blame(Cause.WIDTH),))
    text = passages(explain.explained(dataclasses.replace(sick, findings=(one,))))
    assert "nan" not in text["Vanishing gradient", "In your network"]
    assert "%" not in text["Vanishing gradient", "What causes it"]
