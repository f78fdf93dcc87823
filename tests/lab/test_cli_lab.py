"""`graddoctor lab`: the list, a run, what is printed where, and how it ends."""

import json
import sys

import pytest

from graddoctor.cli import main
from lab_toys import toy


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    found = (toy(), toy("other", verdict="not reproduced"))
    for module in ("run", "listing"):
        __import__(f"graddoctor.lab.{module}")
        monkeypatch.setattr(sys.modules[f"graddoctor.lab.{module}"], "EXPERIMENTS", found)
    monkeypatch.chdir(tmp_path)


def test_without_a_name_it_lists(capsys):
    assert main(["lab"]) == 0
    printed = capsys.readouterr().out
    assert "toy    A toy" in printed
    assert "other  A other" in printed
    assert main(["lab", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["experiments"]] == ["toy", "other"]


def test_a_run_ends_with_its_verdict(capsys, tmp_path):
    assert main(["lab", "toy", "--workers", "0", "-o", "a.html", "-o", "a.json", "-o", "a.png"]) == 0
    assert capsys.readouterr().out.startswith("REPRODUCED  A toy")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved["experiments"][0]["runs"] == 9
    assert main(["report", "a.json", "-o", "b.html"]) == 0
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def test_another_verdict_than_the_known_one_ends_with_1(capsys):
    assert main(["lab", "all", "--quick", "--json", "--workers", "0"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in told["experiments"]] == ["reproduced", "reproduced"]
    assert told["quick"] is True
    assert main(["lab", "toy", "--seeds", "4", "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiments"][0]["seeds"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toys"], "the lab has no experiment 'toys': did you mean toy?"),
        (["toy", "--seeds", "1"], "seeds: expected at least 2"),
        (["toy", "--out", "x.pdf"], "its name should end in one of"),
        (["toy", "--ray", "127.0.0.1:1"], "no Ray cluster can be reached"),
        (["toy", "--workers", "-1"], "--workers"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, message):
    assert main(["lab", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out
