"""`graddoctor explain`: the list, topics, saved reports, pages, and what goes wrong."""

import json
import os
import subprocess
import sys
import webbrowser

import pytest

import graddoctor as gd
from graddoctor.cli import main
from graddoctor.lab import digits
from graddoctor.show import Report, save
from graddoctor.terms import Condition, Finding, Severity


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = Finding(Condition.DEAD_UNITS, Severity.WARNING, ("net.0",), numbers={"dead_share": 0.6})
    save(Report("net.py", "sick", "Units are dead.", (found,)), "checkup.json")
    (tmp_path / "broken.json").write_text("{")
    save(gd.predict(depth=3).report(), "prediction.json")


def test_alone_it_lists(capsys):
    assert main(["explain"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "vanishing  ",
        "  learning-rate-too-low",
        "\n  clipping\n    clipping-lifted",
        "graddoctor explain --open",
    ):
        assert part in printed
    assert main(["explain", "--json"]) == 0
    topics = json.loads(capsys.readouterr().out)["topics"]
    assert len(topics) > 90
    assert {one["kind"] for one in topics} == {"condition", "cause", "remedy"}


def test_a_topic_is_printed_and_saved(capsys, tmp_path):
    assert main(["explain", "dead units", "--out", "a.html", "--out", "a.md", "--out", "a.txt"]) == 0
    assert capsys.readouterr().out.startswith("Dead units  condition")
    assert "Dead units" in (tmp_path / "a.html").read_text()
    assert "**What does not.**" in (tmp_path / "a.md").read_text()
    assert main(["explain", "dead units", "--level", "student", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["level"] for one in told["subjects"][0]["passages"]} == {"student"}


def test_a_saved_report_is_explained(capsys):
    assert main(["explain", "checkup.json"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "In the worst layer 60 % of the units are dead." in words
    assert "IN DEPTH" in words


def test_open_shows_a_page(capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["explain", "checkup.json", "--open"]) == 0
    assert opened[0].startswith("file://")
    assert capsys.readouterr().err.strip().endswith("explain.html")
    assert main(["explain", "gates", "--open", "--out", "gates.html"]) == 0
    assert opened[1].endswith("/gates.html")
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert main(["explain", "gates", "--open"]) == 0
    assert "no browser could be started; the page is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vanish"], "there is no topic 'vanish': did you mean vanishing?"),
        (["skip"], "'skip' can mean n-skip-connections,"),
        (["gates", "--level", "pupil"], "--level is student or engineer, got 'pupil'"),
        (["missing.json"], "cannot read the report 'missing.json'"),
        (["broken.json"], "cannot read the report 'broken.json': not a graddoctor report"),
        (["prediction.json"], "expected the report of a check or a fix, got one of kind 'prediction'"),
        (["gates", "--out", "gates.pdf"], "its name should end in one of"),
        (["gates", "--out", "gates.png"], "could not save gates.png: there is no budget to draw"),
        (["--level", "student"], "--level is for a topic or a saved report: name one"),
        (["x" * 300], "there is no topic"),
        (["--out", "story.md"], "cannot save the whole explanation as 'story.md': its name should end in .html"),
        (["--out", "no/story.html"], "make the folder 'no' first"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, message):
    assert main(["explain", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


def test_the_story_needs_digits_to_read(capsys, monkeypatch):
    digits._images.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["explain", "--out", "story.html", "--workers", "0"]) == 2
    assert "pip install" in capsys.readouterr().err
    digits._images.cache_clear()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_any_terminal_shows_formulae(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "graddoctor", "explain", "vanishing"],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert "chi = sigma_w" in done.stdout.decode(encoding)


def test_a_file_of_a_topics_name_does_not_hide_it(tmp_path, capsys):
    (tmp_path / "plateau").write_text("mine")
    assert main(["explain", "plateau"]) == 0
    assert capsys.readouterr().out.startswith("Plateau")
