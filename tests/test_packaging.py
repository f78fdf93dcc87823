"""The project as it is shipped: commands of the README, versions, public names, what an import costs."""

import ast
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import graddoctor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MOST_PUBLIC_NAMES = 25


def two_commands():
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Two commands\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.+)\n```$", section, re.MULTILINE), section


def steps(command):
    """The words of each command in a chain of them."""
    return [shlex.split(part) for part in command.split(" && ")]


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


def test_the_readme_has_two_commands_of_a_line():
    commands, section = two_commands()
    assert len(commands) == 2
    for command in commands:
        make, install, *_ = steps(command)
        assert make == ["python3", "-m", "venv", ".venv"]
        assert install[:3] == [".venv/bin/pip", "install", "torch==2.13.0"]
    assert "Exit code 1 is the right verdict" in section


def test_the_first_command_examines_an_example_that_is_there():
    (_, install, check), (example, page) = steps(two_commands()[0][0]), ("examples/deep_sigmoid.py", "checkup.html")
    assert install[-1] == ".[examples]"
    assert check == [".venv/bin/graddoctor", "check", example, "--out", page]
    assert (ROOT / example).is_file()


def test_the_second_command_runs_the_whole_suite():
    _, install, test = steps(two_commands()[0][1])
    assert install[-1] == ".[test]"
    assert test[0] == ".venv/bin/pytest"
    assert not {"-k", "-m", "--ignore", "--deselect"} & set(test)


def test_ci_finds_the_very_second_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    finder = re.search(r"(awk '.*' README\.md)", script)[1]
    found = subprocess.run(["bash", "-c", finder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == two_commands()[0]
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0


def test_the_versions_agree():
    assert importlib.metadata.version("graddoctor") == graddoctor.__version__
    newest = re.search(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is None or newest[1] == graddoctor.__version__


def test_requirements_have_lower_bounds_only():
    optional = PROJECT["project"]["optional-dependencies"]
    for requirement in [*PROJECT["project"]["dependencies"], *(one for extra in optional.values() for one in extra)]:
        assert re.fullmatch(r"[a-z0-9-]+>=[\d.]+|graddoctor\[\w+\]", requirement), requirement


def test_the_extras_are_those_that_are_promised():
    promised = "examples test docs lightning transformers ray tensorboard wandb mlflow ui parquet"
    assert set(PROJECT["project"]["optional-dependencies"]) == set(promised.split())


def test_every_exception_from_a_lint_rule_gives_its_reason():
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.ruff.lint]\n")[2]
    lines = section.partition("[tool.mypy]")[0].splitlines()
    unjustified = [line for line in lines if re.search(r'"[A-Z]+\d*"', line) and "#" not in line and "ALL" not in line]
    assert not unjustified


class TestPublicNames:
    def test_there_are_few_and_each_is_there(self):
        assert len(graddoctor.__all__) <= MOST_PUBLIC_NAMES
        for name in graddoctor.__all__:
            assert getattr(graddoctor, name) is not None, name

    def test_type_checkers_see_the_same_names(self):
        tree = ast.parse(Path(graddoctor.__file__).read_text(encoding="utf-8"))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        typed = {alias.name: one.module for one in block.body for alias in one.names}
        assert typed.pop("testing") == "graddoctor"
        assert typed == graddoctor._HOMES
        assert set(graddoctor.__all__) == {*typed, "testing"}
        assert dir(graddoctor) == sorted(graddoctor.__all__)

    @pytest.mark.parametrize("name", ["check", "train", "watch"])
    def test_a_function_is_not_replaced_by_the_file_it_lives_in(self, name):
        code = f"import importlib, graddoctor; importlib.import_module('graddoctor.{name}')\n"
        done = run("-c", f"{code}print(type(graddoctor.{name}).__name__)")
        assert done.stdout.strip() in {"function", "type"}, done.stderr

    def test_unknown_names_are_unknown(self):
        with pytest.raises(AttributeError, match="no attribute 'cheque'"):
            graddoctor.cheque  # noqa: B018 - to look is the test

    def test_names_cannot_be_assigned_away_by_imports_only(self, monkeypatch):
        monkeypatch.setattr(graddoctor, "check", len)
        assert graddoctor.check is len


class TestQuickStart:
    @pytest.mark.parametrize("flags", [["--help"], ["--version"], ["check", "--help"], ["no-such-verb"], []])
    def test_torch_is_not_imported_before_a_verb_needs_it(self, flags):
        code = "import sys, json\nfrom graddoctor.cli import main\nmain(sys.argv[1:])\n"
        done = run("-c", f"{code}print(json.dumps(sorted(sys.modules)), file=sys.stderr)", *flags)
        modules = set(json.loads(done.stderr.splitlines()[-1]))
        assert not {"torch", "numpy", "scipy", "networkx", "altair", "graddoctor.recipe"} & modules

    def test_a_wrong_setting_is_told_without_torch(self):
        code = "import sys\nfrom graddoctor.cli import main\nprint(main(sys.argv[1:]), 'torch' in sys.modules)"
        assert run("-c", code, "check", "x.py", "--budget", "soon").stdout.strip() == "2 False"

    def test_help_is_quick(self):
        def once():
            began = time.perf_counter()
            assert run("-m", "graddoctor", "--help").returncode == 0
            return time.perf_counter() - began

        assert min(once() for _ in range(5)) < 0.4  # the best of five: the machine may be busy
