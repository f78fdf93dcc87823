"""The command line with real recipes and real checkups; in a process of its own where that is what is tested."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import graddoctor
from graddoctor.cli import main

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGE_BYTES, PATIENCE = 1_500_000, 300
LONG = """\
import torch
from graddoctor import Recipe
inputs = torch.randn(64, 8)
def loss(model, batch):
    print("training now", flush=True)
    return model(batch).square().mean() + 1
recipe = Recipe(model=lambda: torch.nn.Linear(8, 1), loss=loss, batches=[inputs] * 10,
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1e-9), epochs=1_000_000)
"""


@pytest.fixture
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def command(*arguments):
    return [sys.executable, "-m", "graddoctor", *map(str, arguments)]


def test_the_readmes_example_is_sick_and_has_its_page(tmp_path):
    arguments = command("check", EXAMPLES / "deep_sigmoid.py", "--out", "page.html", "--out", "page.json")
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[0].startswith("SICK")
    page = tmp_path / "page.html"
    assert page.stat().st_size < PAGE_BYTES
    checkup = json.loads((tmp_path / "page.json").read_text())
    assert checkup["findings"][0]["condition"] == "vanishing"
    assert checkup["findings"][0]["causes"][0]["kind"] == "activation"
    experiments = sum(trial["steps"] for trial in checkup["trials"])
    assert 0 < experiments <= 2 * 240, (
        "what it costs is counted in steps of training, of which the run itself takes 240"
    )


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_json_holds_to_its_schema(capsys):
    code = main(["check", str(EXAMPLES / "tanh_mlp.py"), "--json", "--no-experiments", "--steps", "60"])
    schema = json.loads((Path(graddoctor.__file__).parent / "show" / "schema.json").read_text())
    checkup = json.loads(capsys.readouterr().out)
    jsonschema.validate(checkup, schema)
    assert code == (0 if checkup["verdict"] == "healthy" else 1)
    assert not list(Path.cwd().iterdir())


def test_ctrl_c_keeps_what_was_seen(tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    arguments = command("check", "long.py", "--json", "--out", "page.json")
    with subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for number, _ in enumerate(process.stderr):
            if number == 100:  # it is well on its way
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    checkup = json.loads(out)
    assert checkup["coverage"]["aborted"] is True
    assert 0 < checkup["coverage"]["steps_seen"] < checkup["coverage"]["steps_total"]
    assert json.loads((tmp_path / "page.json").read_text()) == checkup


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model(batch).square().mean()", "model(batch).sqare().mean()", r"broken\.py:6: .* raised AttributeError"),
        ("torch.nn.Linear(8, 1)", "torch.nn.Linear(9, 1)", r"broken\.py:6: .* raised RuntimeError"),
        (".square().mean() + 1", "", "one number|scalar"),
        ("model(batch).square().mean() + 1", "model(batch).detach().mean()", "no trainable parameter"),
        ("[inputs] * 10", "[]", "no batch"),
        ("[inputs] * 10", "(one for one in [inputs])", "used up"),
        ("m.parameters(), lr", "torch.nn.Linear(8, 1).parameters(), lr", "optimizer"),
        ("lambda: torch.nn.Linear(8, 1)", "lambda: torch.nn.Linear(8, 1).requires_grad_(False)", "requires a gradient"),
        ("lambda: torch.nn.Linear(8, 1)", "lambda one=torch.nn.Linear(8, 1): one", "same object twice"),
    ],
)
@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_a_broken_recipe_is_one_line_and_exit_2(capsys, old, new, told):
    assert old in LONG
    Path("broken.py").write_text(LONG.replace('    print("training now", flush=True)\n', "    \n").replace(old, new))
    assert main(["check", "broken.py", "--out", "page.html", "--steps", "20"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("graddoctor: ")
    assert re.search(told, line)
    assert "bug in graddoctor" not in line
    assert not Path("page.html").exists()


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_a_budget_bounds_the_time(capsys):
    Path("long.py").write_text(LONG)
    began = time.monotonic()
    assert main(["check", "long.py", "--budget", "3s", "--json"]) == 1
    assert time.monotonic() - began < 30  # ten times as much: the machine may be busy
    coverage = json.loads(capsys.readouterr().out)["coverage"]
    assert coverage["steps_seen"] < coverage["steps_total"] == 10_000_000


def test_a_reader_that_goes_away_is_no_bug(tmp_path):
    (tmp_path / "report.json").write_text(
        json.dumps({"schema": 1, "title": "t", "verdict": "healthy", "headline": "h"}), encoding="utf-8"
    )
    line = " ".join(command("report", "report.json"))
    done = subprocess.run(
        ["bash", "-c", f"{line} | true"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
