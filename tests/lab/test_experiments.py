"""What every experiment of the lab must say, and that it keeps to the public face."""

import ast
import sys
from pathlib import Path

import pytest

from graddoctor import lab
from graddoctor.lab import experiments

FILES = sorted(Path(experiments.__file__).parent.glob("[!_]*.py"))
ALLOWED = {"graddoctor", "torch", "numpy", "sklearn", "scipy", *sys.stdlib_module_names}
VERDICTS = ("reproduced", "not reproduced", "only under these conditions")


def test_every_file_is_listed():
    assert {file.stem.replace("_", "-") for file in FILES} == {one.name for one in lab.EXPERIMENTS}
    assert len({one.title for one in lab.EXPERIMENTS}) == len(lab.EXPERIMENTS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_short_and_uses_the_public_face(file):
    source = file.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    for node in ast.walk(ast.parse(source)):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert name.split(".")[0] in ALLOWED, name
            inside = name.startswith("graddoctor.")
            assert not inside or name.startswith(("graddoctor.lab", "graddoctor.remedies.plain")), name


@pytest.mark.parametrize("one", lab.EXPERIMENTS, ids=lambda one: one.name)
class TestExperiment:
    """One experiment."""

    def test_it_says_what_it_is_about(self, one):
        for text in (one.title, one.claim, one.source, one.expected, one.scaled, one.lesson):
            assert len(text) > 10
            assert text == " ".join(text.split())
        assert one.verdict in VERDICTS
        assert "must carry over" in one.scaled.lower() or "carries over" in one.scaled.lower()

    def test_its_questions_have_bounds_and_its_claim_is_asked_about(self, one):
        assert any(not question.control for question in one.questions)
        for question in one.questions:
            assert (question.above is None) != (question.below is None)
            assert question.says.endswith(".")

    def test_its_quick_form_is_smaller(self, one):
        assert one.quick_seeds >= 3
        assert one.seeds >= 5
        assert len(one.quick) * one.quick_seeds < len(one.arms) * one.seeds
        assert {frozenset(arm) for arm in one.quick} == {frozenset(arm) for arm in one.arms}
