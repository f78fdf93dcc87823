"""``graddoctor fix``: what reaches `fix`, what is written where, and real ones: cured, refused, interrupted, killed."""

import contextlib
import json
import math
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jsonschema
import pytest
from referencing import Registry, Resource

import graddoctor
from graddoctor.cli import main
from graddoctor.errors import GraddoctorError, TrialsError
from graddoctor.prove import run_task, serial
from graddoctor.prove.store import TrialStore
from graddoctor.prove.trials_file import trials_file
from graddoctor.show.cure import CureReport
from graddoctor.show.report import Report

PATIENCE = 300
FILE = """\
import sys
import time
import torch
from torch import nn
from graddoctor import Recipe

inputs = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
targets = (inputs @ torch.randn(8, 1, generator=torch.Generator().manual_seed(1))).tanh()
inputs = 300 * inputs + 900
batches = [(inputs[k : k + 16], targets[k : k + 16]) for k in range(0, 96, 16)]


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def loss(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)


recipe = Recipe(model=net, loss=loss, batches=batches, optimizer=optimizer, epochs=20)
"""
SOUND = ("inputs = 300 * inputs + 900\n", "")
SLOWLY = ("def loss(model, batch):\n", "def loss(model, batch):\n    time.sleep(0.0005)\n")


def write(*changes, name="train.py"):
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(name).write_text(text)


def files():
    return {path.name for path in Path.cwd().iterdir()} - {"train.py", "__pycache__"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()


@pytest.fixture
def fails(capsys):
    def fails(*arguments, code=2):
        assert main(arguments) == code
        printed = capsys.readouterr()
        (line,) = [line for line in printed.err.splitlines() if line.startswith("graddoctor: ")]
        assert "Traceback" not in printed.err
        assert "bug in graddoctor" not in line
        return line.removeprefix("graddoctor: ")

    return fails


# --- what reaches `fix`: a stand-in


class StandIn:
    """Takes the place of `graddoctor.fix`: keeps what it was called with, and gives what it was told to."""

    def __init__(self):
        self.calls, self.saved = [], []
        self.verdict, self.exit_code, self.aborted, self.error, self.unsaved = "cured", 0, "", None, None

    def fix(self, recipe, **options):
        self.calls.append((recipe, options))
        print("printed while training")  # noqa: T201 - as a user's own code does
        if options["trials"] is not None:
            Path(options["trials"]).write_text("trials")
        if self.error:
            raise self.error
        checkup = Report(title=recipe.name, verdict="sick", headline="It was as it was.")
        report = CureReport(title="it", verdict=self.verdict, headline="It is as it is.", checkup=checkup)
        return SimpleNamespace(report=lambda: report, exit_code=self.exit_code, aborted=self.aborted, save=self.save)

    def save(self, path):
        if self.unsaved:
            raise self.unsaved
        self.saved.append(path.name)

    @property
    def options(self):
        ((_, options),) = self.calls
        return options


@pytest.fixture
def cure(monkeypatch):
    stand_in, module = StandIn(), ModuleType("graddoctor.fix")
    module.fix = stand_in.fix
    monkeypatch.setitem(sys.modules, "graddoctor.fix", module)
    return stand_in


def test_defaults_ask_for_a_proof_in_this_process(cure):
    assert main(["fix", "train.py"]) == 0
    assert callable(cure.options.pop("progress"))
    assert cure.options == {
        "keep": (),
        "seeds": 5,
        "budget": None,
        "steps": None,
        "workers": 0,
        "ray": False,
        "threads": 1,
        "trials": Path("train.trials"),
    }


def test_every_flag_arrives(cure):
    flags = "--keep loss --keep data --seeds 7 --budget 2m --steps 50 --workers 2 --ray local --threads 3 --trials t.db"
    main(["fix", "train.py", *flags.split(), "--seed", "4", "--device", "cpu", "some", "words"])
    cure.options.pop("progress")
    recipe, options = cure.calls[0]
    expected = {"keep": ["loss", "data"], "seeds": 7, "budget": 120.0, "steps": 50, "workers": 2, "threads": 3}
    assert options == {**expected, "ray": True, "trials": Path("t.db")}
    assert (recipe.seed, recipe.device) == (4, "cpu")


def test_ray_may_be_an_address(cure):
    main(["fix", "train.py", "--ray", "10.0.0.1:6379"])
    assert cure.options["ray"] == "10.0.0.1:6379"


def test_every_file_is_saved_and_one_that_fails_costs_no_other(cure, fails):
    assert main(["fix", "train.py", "-o", "treated.py", "-o", "page.html"]) == 0
    assert cure.saved == ["treated.py", "page.html"]
    cure.unsaved = PermissionError("not here")
    message = fails("fix", "train.py", "-o", "a.py", "-o", "b.md")
    assert message == "could not save a.py: PermissionError: not here; could not save b.md: PermissionError: not here"


def test_json_is_all_there_is_on_stdout(cure, capsys):
    assert main(["fix", "train.py", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kind"] == "cure"
    assert "printed while training" in printed.err


def test_what_graddoctor_warns_of_is_a_line_of_its_own(cure, capsys, monkeypatch):
    usual = cure.fix

    def warning(recipe, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit("beware", UserWarning, graddoctor.__file__, 1)
            warnings.warn_explicit("the user's own", UserWarning, "train.py", 7)
        return usual(recipe, **options)

    monkeypatch.setattr(sys.modules["graddoctor.fix"], "fix", warning)
    monkeypatch.setattr(warnings, "showwarning", lambda *given: sys.stderr.write(warnings.formatwarning(*given[:4])))
    assert main(["fix", "train.py"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "graddoctor: beware" in lines
    assert any(line.startswith("train.py:7: UserWarning: the user's own") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "no/such/treated.py"], "no/such"),
        (["--out", "page.docx"], "page.docx"),
        (["--out", "train.py/treated.py"], "train.py/treated.py"),
        (["--out", "."], "cannot save a report as '.': its name should end in one of .py .html"),
        (["--out", "train.py"], "--out train.py is the recipe's own file: choose another one, such as treated.py"),
        (["--seeds", "many"], "--seeds"),
        (["--budget", "soon"], "--budget: expected seconds or a duration such as 90, 90s or 5m, got 'soon'"),
        (["--steps", "0"], "--steps: expected a number of steps from 1 upwards, got 0"),
        (["--device", "xpu"], "device xpu was asked for"),
        (["--bogus"], "No such option: --bogus"),
    ],
)
def test_bad_usage_is_told_before_training(cure, fails, arguments, told):
    assert told in fails("fix", "train.py", *arguments)
    assert not cure.calls
    assert files() == set()


# --- the file of trials that nobody asked for


@pytest.mark.parametrize(
    ("verdict", "code", "aborted", "stays"),
    [
        ("cured", 0, "", False),
        ("sound", 0, "", False),
        ("not cured", 1, "", False),
        ("cured", 0, "the time was used up", False),
        ("not cured", 1, "the time was used up", True),
        ("interrupted", 130, "interrupted", True),
    ],
)
def test_it_stays_only_where_there_is_something_to_go_on_with(cure, verdict, code, aborted, stays):
    cure.verdict, cure.exit_code, cure.aborted = verdict, code, aborted
    assert main(["fix", "train.py"]) == code
    assert files() == ({"train.trials"} if stays else set())
    assert main(["fix", "train.py", "--trials", "mine.db"]) == code
    assert "mine.db" in files()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrialsError("the disk is full"), ZeroDivisionError()])
def test_it_stays_after_a_crash(cure, error):
    cure.error = error
    assert main(["fix", "train.py"]) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert files() == {"train.trials"}


def test_it_stays_until_the_report_is_written(cure):
    cure.unsaved = OSError("no room")
    assert main(["fix", "train.py", "-o", "page.html"]) == 2
    assert files() == {"train.trials"}


def test_it_goes_where_the_reader_has_seen_enough(cure, monkeypatch):
    def gone(report):
        raise BrokenPipeError

    monkeypatch.setattr("graddoctor.show.print_report", gone)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: 1, write=len, flush=lambda: None))
    assert main(["fix", "train.py"]) == 2
    assert files() == set()


def test_it_is_named_after_the_target():
    def named(target, wanted=None):
        with trials_file(wanted, target) as book:
            return str(book.path)

    assert named("some/train.py") == "train.trials"
    assert named("some/train.py:make") == "train-make.trials"
    assert named("package.module:make") == "package.module-make.trials"
    assert named("train.py", Path("x/y.db")) == "x/y.db"


def test_a_folder_that_cannot_be_written_into_has_none(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with trials_file(None, "train.py") as book:
        assert book.path is None
        book.finished = True


def test_sqlites_own_files_go_with_it():
    with trials_file(None, "train.py") as book:
        for name in ("train.trials", "train.trials-wal", "train.trials-shm", "train.trials-mine"):
            Path(name).write_text("")
        book.finished = True
    assert files() == {"train.trials-mine"}


# --- real ones


def validator():
    folder = Path(graddoctor.__file__).parent / "show"
    schemas = {name: json.loads((folder / name).read_text()) for name in ("schema.json", "cure.schema.json")}
    registry = Registry().with_resources([(name, Resource.from_contents(one)) for name, one in schemas.items()])
    return jsonschema.Draft202012Validator(schemas["cure.schema.json"], registry=registry)


def test_a_cure_is_printed_and_its_files_are_written(capsys):
    assert main(["fix", "train.py", "--json", "-o", "treated.py", "-o", "page.html", "-o", "cure.json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    validator().validate(printed)
    assert (printed["verdict"], printed["remedies"][0]["name"]) == ("cured", "inputs standardised")
    assert files() == {"treated.py", "treated.diff", "page.html", "cure.json"}
    assert json.loads(Path("cure.json").read_text()) == printed
    assert main(["report", "cure.json"]) == 0
    assert capsys.readouterr().out.startswith("CURED  train.py: Cured by inputs standardised")


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch command")
def test_the_patch_applies_and_the_file_is_healthy_then(capsys):
    cured(capsys, "-o", "treated.py")
    patched = subprocess.run(["patch", "-p0"], input=Path("treated.diff").read_text(), text=True, check=False)
    assert patched.returncode == 0
    assert main(["check", "train.py", "--no-experiments"]) == 0
    assert capsys.readouterr().out.partition("HEALTHY")[1] == "HEALTHY"


def test_a_sound_recipe_is_left_alone(capsys):
    write(SOUND)
    assert main(["fix", "train.py"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("SOUND  train.py: It learns as it is: nothing was changed.")
    assert (printed.err, files()) == ("", set())


def test_too_few_seeds(capsys):
    with pytest.warns(UserWarning, match="2 seeds can prove nothing"):
        assert main(["fix", "train.py", "--seeds", "2"]) == 1
    printed = capsys.readouterr()
    assert "Nothing is proven, which takes 5 fresh seeds that differ" in " ".join(printed.out.split())
    assert files() == set()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("batches=batches", "batches=[]", "an epoch must have at least one"),
        ("batches=batches", "batches=iter(batches)", "used up after one pass: give a function that makes it"),
        ("loss=loss", "loss=lambda m, b: m(b[0])", "take its mean or sum"),
        ("loss=loss", "loss=lambda m, b: loss(m, b).mena()", "raised AttributeError: 'Tensor' object has no attribute"),
        ("model=net", "model=lambda one=net(): one", "same object twice: build it inside the function"),
        ("model=net", "model=lambda: net().requires_grad_(False)", "requires a gradient"),
        ("optimizer=optimizer", "optimizer=lambda _: optimizer(net())", "build it from the argument"),
        ("optimizer=optimizer", "optimizer=lambda _: torch.optim.SGD([], lr=1.0)", "got an empty parameter list"),
        ("epochs=20", "epochs=20, evaluate=lambda m: 1 / 0", "raised ZeroDivisionError"),
        ("epochs=20", "epochs=20, evaluate=str", "evaluate must return a number; it returned str"),
    ],
)
def test_a_broken_recipe_is_one_line_and_leaves_no_file(fails, old, new, told):
    write((old, new))
    assert told in fails("fix", "train.py", "-o", "page.html")
    assert files() == set()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--keep", "architechture"], "got 'architechture'; did you mean architecture?"),
        (["--seeds", "0"], "seeds: expected 1 or more, got 0"),
        (["--workers", "-1"], "workers: expected 0 or more, got -1"),
        (["--trials", "train.py"], "train.py holds no trials: it begins with b'import s'; choose another file"),
        (["--trials", "no/such/trials"], "no/such is not a folder; make it first"),
        (["--ray", "127.0.0.1:1"], "no Ray cluster can be reached at '127.0.0.1:1'"),
    ],
)
def test_what_cannot_be_is_told_before_training(fails, arguments, told):
    write(("def loss(model, batch):\n", "def loss(model, batch):\n    raise SystemError\n"))
    if "--ray" in arguments:
        pytest.importorskip("ray")
    assert told in fails("fix", "train.py", *arguments)
    assert files() == set()


def test_ray_that_is_not_installed(fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert fails("fix", "train.py", "--ray", "local") == 'ray is not installed: run pip install "graddoctor[ray]"'


# --- Ctrl-C and kill


def known(path="train.trials"):
    """How many trials there are in the file, while another process writes it."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        return db.execute("SELECT count(*) FROM trials").fetchone()[0]
    return 0


def started(*flags, until):
    command = [sys.executable, "-m", "graddoctor", "fix", "train.py", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE
    while known() < until and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None
    return process


def cured(capsys, *flags):
    assert main(["fix", "train.py", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def trials_of(capsys):
    """A fix, and the trials that it really trains."""
    trained = []

    def counting(setting, task, within=math.inf):
        trained.append(task.key)
        return run_task.run_task(setting, task, within)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serial, "run_task", counting)
        return SimpleNamespace(report=cured(capsys), trained=trained)


def without_times(report):
    """What must be the same however often it was stopped."""
    proof = {key: value for key, value in report["proof"].items() if key != "cost_per_step"}
    return report["verdict"], report["remedies"], report["race"], proof, report["source"], report["effort"]["steps"]


def test_killed_and_run_again_it_has_the_same_cure_with_fewer_trials(capsys):
    write(SLOWLY)
    process = started(until=6)
    process.kill()
    process.communicate()
    assert known() >= 6
    process = started(until=known() + 6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert err == ""
    said = " ".join(out.split())
    assert said.startswith("INTERRUPTED train.py: Interrupted: it stays as it is. ")
    assert "interrupted; run again, it goes on where it stopped (train.trials)" in said
    before = known()
    assert before >= 12
    write()  # the same without the waiting
    ran = trials_of(capsys)
    assert "train.trials" not in files()
    whole = trials_of(capsys)
    assert without_times(ran.report) == without_times(whole.report)
    assert len(ran.trained) == len(whole.trained) - before


def test_a_finished_one_is_not_run_again(capsys):
    first = cured(capsys, "--trials", "mine.db")
    with TrialStore("mine.db") as store:
        count = len(store)
    write(SLOWLY)
    assert without_times(cured(capsys, "--trials", "mine.db")) == without_times(first)
    with TrialStore("mine.db") as store:
        assert len(store) == count


def test_what_another_recipe_left_is_refused(fails, capsys):
    cured(capsys, "--trials", "train.trials")
    write(("lr=0.2", "lr=0.3"))
    message = fails("fix", "train.py")
    assert message == (
        "train.trials holds trials of another recipe: optimizer: expected group 0: lr 0.2, got group 0: lr 0.3; "
        "delete it, or choose another file"
    )
    assert files() == {"train.trials"}
    Path("train.trials").unlink()
    cured(capsys)
    assert files() == set()


def test_a_file_that_holds_no_trial_is_nobodys():
    TrialStore("train.trials").close()
    assert files() == set()
    with TrialStore("train.trials") as store:
        store._made_here = False  # as after a kill
    assert files() == {"train.trials"}
    write(SOUND)
    assert main(["fix", "train.py"]) == 0
    assert files() == set()


def test_a_traceback_is_there_for_the_asking(cure, monkeypatch):
    monkeypatch.setenv("GRADDOCTOR_TRACEBACK", "1")
    cure.error = GraddoctorError("on purpose")
    with pytest.raises(GraddoctorError):
        main(["fix", "train.py"])
