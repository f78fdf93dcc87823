"""The documentation runs: every Python block, every ``graddoctor`` command with its output, every docstring example.

A Python block that begins with ``# name.py`` is written to that file as well, so that commands below can name it. In a
``console`` block, lines after ``$ graddoctor`` (or ``$ echo``) are what is expected; ``...`` stands for anything.
"""

import doctest
import importlib
import importlib.util
import inspect
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
from graddoctor.diagnose import plan, recurrent_steps
from graddoctor.remedies import plain
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.optimizer import rate
from graddoctor.remedies.pharmacy import PHARMACY, prescribe
from graddoctor.terms import Cause, Condition
from graddoctor.testing import zoo
from graddoctor.topics import recognised

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOPICS = sorted((ROOT / "src" / "graddoctor" / "topics").glob("*.md"))
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


def called(page):
    """What a page is called in the list of tests: several are an ``index.md``."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*PAGES, *TOPICS], ids=called)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # a page may import what its commands have written
    monkeypatch.delitem(sys.modules, "treated", raising=False)  # and not what another test has
    for example in BOOK.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_links_between_pages_lead_somewhere(page):
    text = _prose(page)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if "://" not in target:
            other = page.parent / target if target else page
            assert other.exists(), f"{called(page)} links to {target}"
            assert not anchor or anchor in _anchors(other), f"{called(page)} links to {target}#{anchor}"


def _prose(page):
    return re.sub(r"^```.*?^```", "", _whole(page), flags=re.MULTILINE | re.DOTALL)


def _whole(page):
    """A page with the topic that it shows."""
    text = page.read_text(encoding="utf-8")
    shown = re.fullmatch(r"```\{include\} (\S+/topics/\S+)\n```\n", text)
    return (page.parent / shown[1]).read_text(encoding="utf-8") if shown else text


def _anchors(page):
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "kind"), [("conditions.md", Condition), ("causes.md", Cause)])
def test_every_word_of_a_diagnosis_has_its_section(page, kind):
    sections = re.findall(r"^## `(\w+)`\n\n> (.+)$", _whole(ROOT / "docs" / page), re.MULTILINE)
    assert dict(sections) == {member.name: member.sentence for member in kind}


def _sections(page):
    text = _whole(ROOT / "docs" / page)
    return dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def test_causes_that_no_experiment_undoes_are_said_to_be_missing():
    missing = {name for name, text in _sections("causes.md").items() if "Not told apart yet" in text}
    families = {getattr(thing, "__module__", "") for thing in [*vars(plan).values(), *vars(recurrent_steps).values()]}
    files = [Path(sys.modules[name].__file__) for name in families if name.startswith("graddoctor.remedies.")]
    sources = "".join(file.read_text(encoding="utf-8") for file in files)
    assert missing == {cause.name for cause in Cause} - set(re.findall(r"Cause\.([A-Z_]+)", sources))


def test_every_cause_says_whether_it_has_remedies():
    told = {name: "](remedies.md#" in text for name, text in _sections("causes.md").items()}
    assert told == {cause.name: cause in PHARMACY for cause in Cause}


class TestRemedies:
    """The page of the remedies holds what the pharmacy holds."""

    def test_each_prescription_stands_under_its_cause(self):
        told = {
            cause: {
                getattr(importlib.import_module(f"graddoctor.remedies.{family}"), name)
                for family, name in re.findall(r"\bby\s+`((?!torch)\w+)\.(\w+)`", text.replace("` and `", "`, by `"))
            }
            for cause, text in _sections("remedies.md").items()
        }
        held = {cause.name: set(prescribers) for cause, prescribers in PHARMACY.items()}
        held["LEARNING_RATE"].add(rate)  # in every search, whatever the cause
        assert told == held

    def test_causes_without_remedies_are_named(self):
        text = _whole(ROOT / "docs" / "remedies.md")
        section = text.partition("## No remedy yet\n")[2].partition("\n## ")[0]
        assert set(re.findall(r"`([A-Z_]+)`", section)) == {cause.name for cause in Cause if cause not in PHARMACY}

    def test_every_plain_function_that_an_edit_can_call_is_named(self):
        text = _whole(ROOT / "docs" / "remedies.md")
        links = re.findall(r"\[(`[^\]]+`)\]\(\.\./src/graddoctor/remedies/plain/(\w+)\.py\)", text)
        told = {f"{file}.{name}" for names, file in links for name in re.findall(r"`(\w+)`", names)}
        modules = [
            importlib.import_module(f"{plain.__name__}.{one.name}") for one in pkgutil.iter_modules(plain.__path__)
        ]
        assert told == {
            f"{module.__name__.rpartition('.')[2]}.{name}"
            for module in modules
            for name, thing in vars(module).items()
            if inspect.isfunction(thing) and thing.__module__ == module.__name__ and _changes_a_part(thing)
        }

    def test_names_sources_and_costs_are_those_that_are_prescribed(self):
        entries = list(_remedies_told())
        assert len({name for name, _, _ in entries}) == len(entries) > 40
        seen = set()
        for patient in zoo()[::12]:
            facts = Facts(patient.recipe, norms=(1.0,) * 50 + (99.0,) * 3, steps=64)
            for remedy in (one for cause in PHARMACY for one in prescribe(cause, facts, [])):
                fitting = [(s, c) for name, s, c in entries if re.fullmatch(name, remedy.name)]
                assert len(fitting) == 1, remedy.name
                found = recognised(remedy.name)
                assert (found.source, found.costs) == fitting[0], remedy.name
                assert fitting[0][0] == (remedy.source or "none") or remedy.source in fitting[0][0].split(", ")
                assert (fitting[0][1] == "nothing") is not bool(remedy.cost) or "else nothing" in fitting[0][1]
                seen.add(remedy.name)
        assert len(seen) > 40


def _changes_a_part(function):
    """Whether a function is called as an edit calls one."""
    signature = inspect.signature(function)
    first, *others = [*signature.parameters, ""]
    made = signature.return_annotation.rpartition(".")[2]
    return (
        (first == "model" and (made == "Module" or others[:2] == ["batch", "original"]))
        or (first == "optimizer" and made in {"Optimizer", "LRScheduler"})
        or (first == "parameters" and made == "None")
        or (first == "batches" and others == [""])
    )


def _remedies_told():
    """Name (as a pattern), source and cost of every remedy on the page."""
    for text in _sections("remedies.md").values():
        for entry in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
            rows = re.findall(r"^\| (.+? (?:at|of) .+?) \| (.+?) \| (.+?) \|$", entry, re.MULTILINE)
            for name, cost, source in rows:
                yield _pattern(name.partition(" (")[0]), source, cost
            if not rows:
                cost, source = (
                    re.search(rf"^- \*{word}\* (.+)$", entry, re.MULTILINE)[1] for word in ("costs", "source")
                )
                yield _pattern(entry.partition("\n")[0]), source, cost


def _pattern(name):
    """What a name with placeholders matches: ``*n*`` and the like stand for numbers, others for any words."""
    shown = re.sub(r"\*(n|x|factor)\*", "NUMBER", name)
    shown = re.escape(re.sub(r"\*[^*]+\*", "WORDS", shown)).replace("NUMBER", r"[\d.e+-]+").replace("WORDS", ".+")
    return re.sub(r"(layer|connection)s", r"\1s?", shown)


@pytest.mark.parametrize(
    ("pages", "rooms"),
    [
        (
            ("conditions.md", "explanation/reading-a-report.md"),
            ("prove", "diagnose", "diagnose.conditions", "remedies"),
        ),
        (("explanation/how-fix-decides.md",), ("prove", "treat", "")),
    ],
)
def test_thresholds_in_the_text_are_those_in_the_code(pages, rooms):
    text = "\n".join(_whole(ROOT / "docs" / page) for page in pages)
    told = re.findall(r"\*\*([\d.]+)( %)?\*\*[^*(]*\(`(\w+)\.(\w+)`\)", text)
    assert len(told) == len(re.findall(r"`\w+\.[A-Z_]+`", text)) >= 10
    for number, percent, file, name in told:
        homes = (f"graddoctor.{room}.{file}".replace("..", ".") for room in rooms)
        value = getattr(importlib.import_module(next(filter(importlib.util.find_spec, homes))), name)
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
