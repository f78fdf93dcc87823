"""Bad input through the command line, with real checkups: one line on stderr, exit 2, nothing trained, nothing lost."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graddoctor.cli import main
from graddoctor.recording import Recording

FILE = """\
import threading
import torch
from graddoctor import Recipe
inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
batches = [inputs[:32], inputs[32:]]
used = iter(batches)
class Locked(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 1)
        self.lock = threading.Lock()
def net():
    return torch.nn.Linear(8, 1)
def loss(model, batch):
    return (model(batch) - batch[:, :1]).square().mean()
def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
recipe = Recipe(model=net, loss=loss, batches=batches, optimizer=optimizer, epochs=40)
"""


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """Run ``graddoctor check`` on the file with one piece exchanged; give exit code, stdout, lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def checked(old="", new="", *flags):
        assert old in FILE
        Path("train.py").write_text(FILE.replace(old, new))
        code = main(["check", "train.py", *flags])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return checked


def test_the_file_itself_is_healthy(checked):
    code, out, err = checked()
    assert (code, err) == (0, [])
    assert out.startswith("HEALTHY")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model=net", "model=lambda: net().requires_grad_(False)", "requires a gradient: set requires_grad on some"),
        ("batches=batches", "batches=lambda: used", "the same list_iterator object twice"),
        ("batches=batches", "batches=used", "used up after one pass: give a function that makes it"),
        ("batches=batches", "batches=lambda: []", "an epoch must have at least one"),
        ("model=net", "model=Locked()", "cannot be copied (TypeError: cannot pickle '_thread.lock' object): give a"),
        ("model=net", "model=lambda one=net(): one", "same object twice: build it inside the function"),
        ("optimizer=optimizer", "optimizer=optimizer(net())", "expected a function, as in optimizer=lambda model"),
        ("optimizer=optimizer", "optimizer=lambda _: optimizer(net())", "build it from the argument"),
        ("optimizer=optimizer", "optimizer=lambda m: torch.optim.LBFGS(m.parameters())", "needs no closure"),
        ("loss=loss", "loss=lambda m, b: m(b)", "take its mean or sum"),
        ("loss=loss", "loss=lambda m, b: loss(m, b).item()", "return it before .item()"),
        ("loss=loss", "loss=lambda m, b: m(b).detach().mean()", "look for .detach()"),
        ("epochs=40", "epochs=40, device='cuda'", "device cuda was asked for"),
        ("epochs=40", "epochs=0", "epochs: expected a whole number from 1 on, got 0"),
    ],
)
def test_one_line_and_exit_2(checked, monkeypatch, old, new, told):
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: None)
    code, out, err = checked(old, new, "--out", "page.json")
    (line,) = err
    assert (code, out) == (2, "")
    assert line.startswith("graddoctor: ")
    assert told in line
    assert "bug in graddoctor" not in line
    assert not Path("page.json").exists()


@pytest.mark.parametrize("factor", ["float('nan')", "float('inf')"])
def test_a_loss_that_is_not_finite_at_the_first_step_is_a_finding(checked, factor):
    code, out, err = checked(".square().mean()", f".square().mean() * {factor}", "--json")
    assert (code, err) == (1, [])
    checkup = json.loads(out)
    assert checkup["findings"][0]["condition"] == "non_finite"


@pytest.mark.parametrize("path", ["missing/page.html", "page.docx", "train.py/page.html"])
def test_a_report_that_cannot_be_written_is_told_before_training(checked, path):
    code, out, (line,) = checked(
        "def loss(model, batch):\n", "def loss(model, batch):\n    raise SystemError\n", "--out", path
    )
    assert (code, out) == (2, "")
    assert path in line
    assert "SystemError" not in line


def test_what_the_users_code_raises_later_is_the_users_own_line(checked):
    broken = "calls = []\ndef loss(model, batch):\n    calls.append(1)\n    assert len(calls) < 70, 'enough'\n"
    code, out, (line,) = checked("def loss(model, batch):\n", broken)
    assert (code, out) == (2, "")
    assert "train.py:16: `assert len(calls) < 70, 'enough'` raised AssertionError: enough" in line


INTERRUPTED = """\
import graddoctor as gd
from train import recipe
checkup = gd.check(recipe.with_(epochs=1_000_000), steps=1_000_000, recording="run.sqlite",
                   progress=lambda phase, done, *_: print(phase, done, flush=True))
print("verdict", checkup.verdict, "exit", checkup.exit_code, flush=True)
raise SystemExit(checkup.exit_code)
"""


def test_ctrl_c_in_a_script_reports_and_leaves_the_recording(tmp_path):
    (tmp_path / "train.py").write_text(FILE)
    (tmp_path / "run.py").write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for number, _ in enumerate(process.stdout):
            if number == 20:  # 336 steps at least
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "exit 130" in out
    assert err == ""
    with Recording.open(tmp_path / "run.sqlite") as book:
        steps = book.scalars("loss").steps
        assert len(steps) >= 336
        assert steps.tolist() == list(range(len(steps)))
        assert "interrupted" in book.events[-1].message


def test_a_killed_checkup_leaves_a_recording_that_can_be_read(tmp_path):
    (tmp_path / "train.py").write_text(FILE)
    (tmp_path / "run.py").write_text(INTERRUPTED)
    with subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for number, _ in enumerate(process.stdout):
            if number == 60:
                break
        process.kill()
        process.wait()
    with Recording.open(tmp_path / "run.sqlite") as book:
        assert len(book.scalars("loss").steps) > 300
        assert book.steps.tolist()[:4] == [0, 1, 2, 4]
