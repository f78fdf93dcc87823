"""The command line: what reaches `check`, what is printed where, and how it ends. The checkup itself is a stand-in."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import graddoctor as gd
from graddoctor.cli import main
from graddoctor.errors import GraddoctorError, RecipeError
from graddoctor.recording import Recording, Stage
from graddoctor.show.report import Report
from graddoctor.show.save import _WRITERS
from graddoctor.terms import Condition

RECIPE = """\
import sys
import torch
from graddoctor import Recipe
print("the user's own words")
recipe = Recipe(model=lambda: torch.nn.Linear(1, 1), loss=lambda m, b: m(b).mean(), batches=[torch.ones(1, 1)],
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), name=" ".join(sys.argv))
"""


class StandIn:
    """Takes the place of `graddoctor.check`: keeps what it was called with, and gives what it was told to."""

    def __init__(self):
        self.calls = []
        self.verdict, self.exit_code, self.error = "sick", 1, None

    def check(self, recipe, **options):
        self.calls.append((recipe, options))
        print("printed while training")  # noqa: T201 - as a user's own code does
        if self.error:
            raise self.error
        report = Report(title=recipe.name, verdict=self.verdict, headline="It is as it is.")
        return SimpleNamespace(report=lambda: report, exit_code=self.exit_code)

    @property
    def recipe(self):
        ((recipe, _),) = self.calls
        return recipe

    @property
    def options(self):
        ((_, options),) = self.calls
        return options


@pytest.fixture
def checkup(monkeypatch, tmp_path):
    stand_in, module = StandIn(), ModuleType("graddoctor.check")
    module.check = stand_in.check
    monkeypatch.setitem(sys.modules, "graddoctor.check", module)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(RECIPE)
    return stand_in


@pytest.fixture
def fails(capsys):
    def fails(*arguments, code=2):
        assert main(arguments) == code
        printed = capsys.readouterr()
        (line,) = [line for line in printed.err.splitlines() if line.startswith("graddoctor: ")]
        assert "Traceback" not in printed.err
        return line.removeprefix("graddoctor: ")

    return fails


@pytest.mark.parametrize(("verdict", "code"), [("healthy", 0), ("sick", 1), ("inconclusive", 1)])
def test_the_verdict_is_the_first_line_and_the_exit_code(checkup, capsys, verdict, code):
    checkup.verdict, checkup.exit_code = verdict, code
    assert main(["check", "train.py"]) == code
    out = capsys.readouterr().out
    report = out.partition("printed while training\n")[2]
    assert verdict in report.splitlines()[0].lower()


def test_json_is_all_there_is_on_stdout(checkup, capsys):
    assert main(["check", "train.py", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["verdict"] == "sick"
    assert "the user's own words" in printed.err
    assert "printed while training" in printed.err
    assert checkup.calls


def test_defaults_ask_for_everything(checkup):
    main(["check", "train.py"])
    progress = checkup.options.pop("progress")
    assert progress is None or callable(progress)
    assert checkup.options == {"budget": None, "steps": None, "experiments": True, "ignore": (), "recording": None}
    assert checkup.recipe.seed == 0


def test_every_flag_arrives(checkup):
    flags = "--budget 2m --steps 50 --no-experiments --ignore plateau --ignore dead-units --seed 7 --device cpu"
    main(["check", "train.py", *flags.split(), "some", "words"])
    checkup.options.pop("progress")
    expected = {"budget": 120.0, "steps": 50, "experiments": False, "recording": None}
    assert checkup.options == {**expected, "ignore": (Condition.PLATEAU, Condition.DEAD_UNITS)}
    assert (checkup.recipe.seed, checkup.recipe.device, checkup.recipe.name) == (7, "cpu", "train.py some words")


def test_settings_come_from_pyproject_and_flags_beat_them(checkup, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.graddoctor]\nsteps = 9\nexperiments = false\nout = "page.json"\n')
    main(["check", "train.py", "--experiments"])
    assert (checkup.options["steps"], checkup.options["experiments"]) == (9, True)
    assert (tmp_path / "page.json").exists()


def test_reports_are_written_by_suffix(checkup, tmp_path, capsys):
    main(["check", "train.py", "--out", "a.html", "-o", "b.md", "--out", "c.json"])
    assert "<html" in (tmp_path / "a.html").read_text()
    assert "sick" in (tmp_path / "b.md").read_text().lower()
    assert json.loads((tmp_path / "c.json").read_text())["verdict"] == "sick"
    capsys.readouterr()
    assert main(["report", "c.json", "--out", "d.html"]) == 0
    assert "sick" in capsys.readouterr().out.splitlines()[0].lower()
    assert (tmp_path / "d.html").read_text() == (tmp_path / "a.html").read_text()
    assert main(["report", "c.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "c.json").read_text())
    assert len(checkup.calls) == 1


def test_a_face_that_fails_costs_no_other(checkup, fails, tmp_path):
    message = fails("check", "train.py", "-o", "a.md", "-o", "b.svg", "-o", "c.json", "-o", "d.png")
    assert message.startswith("could not save b.svg: there is no budget to draw in this report")
    assert "; could not save d.png: " in message
    assert sorted(path.name for path in tmp_path.iterdir() if path.stem in "abcd") == ["a.md", "c.json"]
    assert "no budget to draw" in fails("report", "c.json", "-o", "e.svg", "-o", "e.md")
    assert (tmp_path / "e.md").read_text() == (tmp_path / "a.md").read_text()
    assert len(checkup.calls) == 1


def test_a_bug_in_a_face_is_told_in_the_same_line(checkup, fails, monkeypatch, tmp_path):
    monkeypatch.setitem(_WRITERS, ".html", lambda report: b"" + 1 / 0)
    message = fails("check", "train.py", "-o", "a.html", "-o", "b.md")
    assert message == "could not save a.html: ZeroDivisionError: division by zero"
    assert (tmp_path / "b.md").exists()
    monkeypatch.setenv("GRADDOCTOR_TRACEBACK", "1")
    with pytest.raises(GraddoctorError) as raised:
        main(["check", "train.py", "-o", "a.html"])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_files_are_saved_although_the_reader_has_gone(checkup, monkeypatch, tmp_path):
    def gone(report):
        raise BrokenPipeError

    monkeypatch.setattr("graddoctor.show.print_report", gone)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: 1, write=len, flush=lambda: None))
    assert main(["check", "train.py", "-o", "a.md"]) == 2
    assert (tmp_path / "a.md").exists()


@pytest.mark.parametrize("path", ["no/such/folder/a.html", ".", "train.py/a.html", "a.docx", "a"])
def test_a_path_that_cannot_be_written_is_told_before_training(checkup, fails, path):
    message = fails("check", "train.py", "--out", path)
    assert path in message
    assert not checkup.calls


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing command"),
        (["chek"], "No such command 'chek'"),
        (["check"], "Missing argument 'FILE'"),
        (["check", "train.py", "--bogus"], "No such option: --bogus"),
        (["check", "train.py", "--steps", "x"], "--steps"),
        (["check", "train.py", "--steps", "0"], "--steps: expected a number of steps from 1 upwards, got 0"),
        (["check", "train.py", "--ignore", "plato"], "did you mean plateau?"),
        (["check", "tarin.py"], "no file tarin.py: did you mean train.py?"),
        (["check", "train.py:recipee"], "did you mean recipe?"),
        (["check", "train.py", "--device", "quantum"], "expected a device such as cpu, cuda or cuda:1, got 'quantum'"),
        (["check", "train.py", "--device", "xpu"], "device xpu was asked for"),
        (["report", "nothing.json"], "nothing.json"),
        (["report", "train.py"], "train.py"),
        (["watch", "nothing.sqlite"], "nothing.sqlite"),
        (["watch", "train.py"], "train.py"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(checkup, fails, arguments, told):
    assert told in fails(*arguments)
    assert not checkup.calls


def test_a_gpu_that_is_not_there(checkup, fails, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: None)
    assert "device cuda was asked for" in fails("check", "train.py", "--device", "cuda")
    (tmp_path / "train.py").write_text(RECIPE.replace("name=", "device='cuda:1', name="))
    assert "use cpu" in fails("check", "train.py")
    assert not checkup.calls


def test_errors_of_the_recipe_are_one_line(checkup, fails):
    checkup.error = RecipeError("loss must return a scalar;\nit returned shape (3,)")
    assert fails("check", "train.py") == "loss must return a scalar; it returned shape (3,)"


def test_an_end_of_file_in_the_users_loader_is_no_ctrl_d(checkup, fails):
    checkup.error = EOFError("Ran out of input")
    assert "raised EOFError: Ran out of input" in fails("check", "train.py")


@pytest.mark.usefixtures("checkup")
def test_errors_of_the_users_code_show_the_users_line(fails, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(RECIPE.replace("m(b).mean()", "m(b).mena()"))
    monkeypatch.setattr(sys.modules["graddoctor.check"], "check", lambda it, **_: it.loss(it.model(), it.batches[0]))
    message = fails("check", "train.py")
    assert message.startswith("train.py:5: `recipe = Recipe(")
    assert "raised AttributeError: 'Tensor' object has no attribute 'mena'" in message


def test_a_traceback_is_there_for_the_asking(checkup, monkeypatch):
    monkeypatch.setenv("GRADDOCTOR_TRACEBACK", "1")
    checkup.error = ZeroDivisionError("on purpose")
    with pytest.raises(ZeroDivisionError):
        main(["check", "train.py"])


def test_ctrl_c_ends_with_130(checkup, fails):
    checkup.error = KeyboardInterrupt()
    assert fails("check", "train.py", code=130) == "interrupted"


def test_an_interrupted_checkup_reports_what_it_has(checkup, capsys, tmp_path):
    checkup.verdict, checkup.exit_code = "inconclusive", 130
    assert main(["check", "train.py", "--out", "a.json"]) == 130
    assert "inconclusive" in capsys.readouterr().out.lower()
    assert (tmp_path / "a.json").exists()


def test_watch_prints_the_newest_numbers(tmp_path, capsys):
    with Recording.create(tmp_path / "run.sqlite") as recording:
        recording.log(3, loss=0.25)
        recording.add(3, "weight", Stage.RAW, norm=2.0)
    assert main(["watch", str(tmp_path / "run.sqlite"), "--once"]) == 0
    assert capsys.readouterr().out.startswith("step 3  loss 0.25  raw gradients from 2 (weight)")


def test_watch_follows_what_gd_watch_records(tmp_path, capsys):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    with gd.watch(model, optimizer, path=tmp_path / "run.sqlite"):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).sum().backward()
            optimizer.step()
    assert main(["watch", str(tmp_path / "run.sqlite"), "--once"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("step 2  ")
    assert "lr 0.125" in line
    assert f"raw gradients from {4 * 2**0.5:.4g} (bias) to {4 * 6**0.5:.4g} (weight)" in line


def test_check_is_told_where_to_record(checkup):
    main(["check", "train.py", "--record", "run.sqlite"])
    assert str(checkup.options["recording"]) == "run.sqlite"
