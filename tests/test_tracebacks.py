"""Whose code raised, on one line."""

import importlib.util
import json
import textwrap

import pytest

from graddoctor.recipe import load_recipe
from graddoctor.tracebacks import blame, describe, locate, shorten, user_frame


@pytest.fixture
def raised(tmp_path, monkeypatch):
    """What a function ``run`` in a user's file raises."""
    monkeypatch.chdir(tmp_path)

    def raised(text):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location("mine", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
            module.run()
        return caught.value

    return raised


def test_the_innermost_frame_of_the_user_counts(raised):
    error = raised(
        """\
        import torch
        def forward():
            return torch.nn.Linear(2, 2)(torch.ones(1, 3))
        def run():
            forward()
        """
    )
    assert locate(error).startswith(
        "mine.py:3: `return torch.nn.Linear(2, 2)(torch.ones(1, 3))` raised RuntimeError: mat"
    )


def test_library_frames_are_no_users():
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    tail = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # without the frame of this test
    assert user_frame(tail) is None
    assert locate(tail) == describe(tail)


def test_own_frames_are_no_users():
    with pytest.raises(TypeError) as caught:
        load_recipe(3)
    tail = caught.value.with_traceback(caught.value.__traceback__.tb_next) if caught.value else None
    assert blame(tail).startswith("a bug in graddoctor, please report it: ")


def test_blame_points_at_the_user_where_there_is_one(raised):
    assert blame(raised("def run():\n    1 / 0")) == (
        "mine.py:2: `1 / 0` raised ZeroDivisionError: division by zero "
        "(GRADDOCTOR_TRACEBACK=1 shows the whole traceback)"
    )


def test_descriptions_are_one_line_of_bounded_length():
    assert describe(ValueError("a\n  b")) == "ValueError: a b"
    assert describe(KeyError()) == "KeyError"
    assert len(describe(ValueError("x" * 5000))) < 400


def test_a_failed_assertion_shows_its_line(raised):
    assert locate(raised("def run():\n    assert [] == [1]")) == "mine.py:2: `assert [] == [1]` raised AssertionError"


def test_paths_are_relative_where_that_is_shorter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shorten(tmp_path / "a" / "b.py") == "a/b.py"
    assert shorten("/elsewhere/b.py") == "/elsewhere/b.py"
