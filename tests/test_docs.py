"""The documentation runs: every Python block, every ``graddoctor`` command with its output, every docstring example.

A Python block that begins with ``# name.py`` is written to that file as well, so that commands below can name it. In a
``console`` block, lines after ``$ graddoctor`` (or ``$ echo``) are what is expected; ``...`` stands for anything.
"""

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import graddoctor
from graddoctor.terms import Cause, Condition

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
TITLED = re.compile(r"# (\w+\.py)\n")


class PythonParser(PythonCodeBlockParser):
    """Python blocks, as code or as doctests; code with a file's name on top is saved under it."""

    def __init__(self):
        super().__init__(doctest_optionflags=LOOSE)
        self.codeblock_parser = CodeBlockParser("python", run_python)


def run_python(example):
    """Run a block, and save it where its first line names a file."""
    if title := TITLED.match(example.parsed):
        Path(title[1]).write_text(example.parsed, encoding="utf-8")
    return PythonEvaluator()(example)


def run_console(example):
    """Run the commands of a console block and compare what they print."""
    commands = re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]
    for text in commands:
        command, _, expected = text.partition("\n")
        if command.split()[0] not in {"graddoctor", "echo"}:
            continue  # installing and the like is for the reader
        last = example.namespace.get("$?", 0)
        done = subprocess.run(
            ["bash", "-c", f"(exit {last}); {command}"], capture_output=True, text=True, check=False, env=_environment()
        )
        example.namespace["$?"] = done.returncode
        printed = done.stdout if done.stdout.strip() or done.returncode == 0 else done.stderr
        if expected.strip() and not doctest.OutputChecker().check_output(expected.rstrip() + "\n", printed, LOOSE):
            return f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}\n{done.stderr}"
    return None


def _environment():
    scripts = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100", "NO_COLOR": "1"}


BOOK = Sybil(
    parsers=[PythonParser(), CodeBlockParser("console", run_console), SkipParser()],
    patterns=["*.md"],
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in BOOK.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    text = _prose(page)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if "://" not in target:
            other = page.parent / target if target else page
            assert other.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in _anchors(other), f"{page.name} links to {target}#{anchor}"


def _prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page):
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "kind"), [("conditions.md", Condition), ("causes.md", Cause)])
def test_every_word_of_a_diagnosis_has_its_section(page, kind):
    sections = re.findall(r"^## `(\w+)`\n\n> (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(sections) == {member.name: member.sentence for member in kind}


def test_causes_that_no_remedy_addresses_are_said_to_be_missing():
    text = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    missing = set(re.findall(r"## `(\w+)`\n\n>[^\n]+\n\n\*\*How it is told apart\.\*\* Not told apart yet", text))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/graddoctor/remedies").glob("*.py"))
    assert missing == {cause.name for cause in Cause} - set(re.findall(r"Cause\.([A-Z_]+)", sources))


def test_thresholds_in_the_text_are_those_in_the_code():
    text = "\n".join(
        (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("conditions.md", "reading-a-report.md")
    )
    told = re.findall(r"\*\*([\d.]+)( %)?\*\*[^*(]*\(`(\w+)\.(\w+)`\)", text)
    assert len(told) == len(re.findall(r"`\w+\.[A-Z_]+`", text)) > 10
    for number, percent, file, name in told:
        rooms = ("prove", "diagnose", "diagnose.conditions")
        room = next(r for r in rooms if importlib.util.find_spec(f"graddoctor.{r}.{file}"))
        value = getattr(importlib.import_module(f"graddoctor.{room}.{file}"), name)
        assert float(number) / (100 if percent else 1) == pytest.approx(value), f"{file}.{name}"


def test_the_readme_lists_every_condition():
    listed = re.findall(r"^\| \[`(\w+)`\]\([^)]*\) \| (.+?) \|$", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(listed) == {member.name: member.sentence for member in Condition}


def _modules_with_examples():
    folder = Path(graddoctor.__file__).parent
    for module in pkgutil.walk_packages([str(folder)], "graddoctor."):
        path = folder.joinpath(*module.name.split(".")[1:])
        source = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if ">>> " in source.read_text(encoding="utf-8"):
            yield module.name


@pytest.mark.parametrize("name", list(_modules_with_examples()))
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=LOOSE)
    assert tried
    assert not failed
