"""Recipes in files and modules: what is found, and the one line that says what is wrong."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.errors import RecipeError
from graddoctor.recipe import Recipe, importable, load_recipe
from graddoctor.recipe.loading import _split

HEAD = """\
import torch
from graddoctor import Recipe
def make(name="", epochs=1):
    return Recipe(model=lambda: torch.nn.Linear(1, 1), loss=lambda m, b: m(b).mean(), batches=[torch.ones(1, 1)],
                  optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), name=name, epochs=epochs)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="train.py", head=HEAD):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + text)
        return name

    return write


def fails(target, *arguments):
    with pytest.raises(RecipeError) as caught:
        load_recipe(target, *arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        "recipe = make('found')",
        "recipe = make('found')\nother = make()",
        "anything = make('found')",
        "anything = also = make('found')",
        "_private = make()\npublic = make('found')",
        "def build() -> Recipe:\n    return make('found')",
        "def build() -> 'Recipe':\n    return make('found')",
        "import graddoctor as gd\ndef build() -> 'gd.Recipe':\n    return make('found')",
        "def build(epochs: int = 3) -> Recipe:\n    return make('found', epochs)",
        "def recipe():\n    return make('found')",
        "def build() -> Recipe:\n    return make()\nvariable = make('found')",
        "recipe = {'no': 'recipe'}\nmine = make('found')",
    ],
)
def test_a_file_that_leaves_no_doubt_needs_no_name(write, text):
    assert load_recipe(write(text)).name == "found"


def test_a_name_chooses_a_recipe_a_function_or_an_attribute(write):
    file = write("""
one = make("one")
def two():
    return make("two")
class Zoo:
    three = make("three")
from functools import partial
four = partial(make, "four")
""")
    for name, expected in {"one": "one", "two": "two", "Zoo.three": "three", "four": "four"}.items():
        assert load_recipe(f"{file}:{name}").name == expected


def test_modules_load_from_the_working_directory(write):
    write("", "package_under_test/__init__.py", head="")
    write("def build():\n    return make('found')", "package_under_test/nets.py")
    assert load_recipe("package_under_test.nets:build").name == "found"


def test_an_absolute_path_and_a_folder_work(write, tmp_path, monkeypatch):
    write("recipe = make('found')", "deep/er/train.py")
    assert load_recipe("deep/er/train.py").name == "found"
    monkeypatch.chdir("/")
    assert load_recipe(str(tmp_path / "deep/er/train.py")).name == "found"
    assert load_recipe(tmp_path / "deep/er/train.py").name == "found"


def test_an_unnamed_recipe_is_called_after_its_target(write):
    file = write("a = make()\nb = make()")
    assert load_recipe(f"{file}:a").name == "train.py:a"
    assert load_recipe(write("recipe = make()", "folder/x.py")).name == "x.py"


def test_neighbours_are_importable_and_the_path_is_restored(write):
    write("NAME = 'found'", "neighbour_a.py", head="")
    write("NAME = 'late'", "neighbour_b.py", head="")
    file = write("""
from neighbour_a import NAME
recipe = make(NAME)
def late():
    from neighbour_b import NAME
    return make(NAME)
""")
    before = list(sys.path)
    assert load_recipe(file).name == "found"
    assert load_recipe(f"{file}:late").name == "late"
    assert sys.path == before
    with importable(file):
        assert __import__("neighbour_b").NAME == "late"
    assert sys.path == before


def test_neighbours_of_the_same_name_in_two_folders_are_told_apart(write):
    for folder in ("one", "two"):
        write(f"NAME = {folder!r}", f"{folder}/same_name.py", head="")
        write("import same_name\nrecipe = make(same_name.NAME)", f"{folder}/train.py")
    assert load_recipe("one/train.py").name == "one"
    assert load_recipe("two/train.py").name == "two"
    assert load_recipe("one/train.py").name == "one"


def test_a_neighbour_never_replaces_a_module_that_is_in_use(write):
    write("x = 1", "json.py", head="")
    load_recipe(write("recipe = make()"))
    assert sys.modules["json"] is json


def test_the_path_is_restored_after_an_error(write):
    before, argv = list(sys.path), sys.argv
    fails(write("1 / 0"))
    assert sys.path == before
    assert sys.argv is argv


def test_arguments_are_what_the_file_finds_in_argv(write):
    file = write("import sys\nrecipe = make(' '.join(sys.argv))")
    assert load_recipe(file).name == "train.py"
    assert load_recipe(file, ["a", "b"]).name == "train.py a b"


def test_the_main_block_does_not_run(write):
    text = "recipe = make('found')\nif __name__ == '__main__':\n    raise SystemExit(3)"
    assert load_recipe(write(text)).name == "found"


def test_nothing_is_written_beside_the_file(write, tmp_path):
    load_recipe(write("recipe = make()"))
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_a_changed_file_is_read_again(write):
    assert load_recipe(write("recipe = make('before')")).name == "before"
    assert load_recipe(write("recipe = make('after')")).name == "after"


def test_dataclasses_with_deferred_annotations_load(write):
    text = "from dataclasses import dataclass\n@dataclass\nclass Batch:\n    x: torch.Tensor\nrecipe = make('found')"
    assert load_recipe(write(text, head=f"from __future__ import annotations\n{HEAD}")).name == "found"


def test_a_loaded_recipe_travels_to_a_process_that_cannot_import_it(write, tmp_path):
    text = "def width():\n    return 7\nrecipe = make().with_(model=lambda: torch.nn.Linear(width(), 1))"
    (tmp_path / "pickle").write_bytes(cloudpickle.dumps(load_recipe(write(text))))
    code = (
        "import pathlib, pickle, sys; print(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()).model().in_features)"
    )
    command = [sys.executable, "-c", code, tmp_path / "pickle"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout == "7\n"


class TestErrors:
    def test_missing_file_names_its_neighbours(self, write):
        write("recipe = make()", "train.py")
        assert fails("tarin.py") == "no file tarin.py: did you mean train.py?"
        assert fails("no/such/file.py") == "no file no/such/file.py: give a Python file"

    def test_not_python(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data.csv").write_text("1,2")
        assert fails("data.csv") == "expected a Python file such as train.py, got data.csv"
        (tmp_path / "folder.py").mkdir()
        assert "folder.py" in fails("folder.py")

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x = 1\x00", "# coding: latin-1\nx = 'é'".encode("latin-1")])
    def test_bytes_that_are_no_source(self, tmp_path, monkeypatch, content):
        monkeypatch.chdir(tmp_path)
        Path("odd.py").write_bytes(content)
        assert "odd.py" in fails("odd.py")

    def test_no_recipe(self, write):
        assert fails(write("x = 1")).startswith("train.py holds no recipe: define `recipe = ")

    @pytest.mark.parametrize("form", ["{} = make()", "def {}() -> Recipe:\n    return make()"])
    def test_several_are_listed(self, write, form):
        file = write("\n".join(form.format(name) for name in ("small", "large")))
        assert fails(file) == "train.py holds several recipes, say which one: train.py:small, train.py:large"

    def test_syntax_error_shows_line_and_text(self, write):
        message = fails(write("x = (1,\ny = 2 +* 3\n"))
        assert message.startswith("train.py:")
        assert "is not valid Python" in message
        assert fails(write("def f(:\n", head="")) == "train.py:1 is not valid Python: invalid syntax: `def f(:`"

    def test_an_exception_shows_the_users_own_frame(self, write):
        message = fails(write("import json\nsettings = json.loads('{')\n", head=""))
        assert message.startswith(
            "train.py raises on import: train.py:2: `settings = json.loads('{')` raised JSONDecodeError: Expecting"
        )

    def test_the_innermost_of_the_users_frames_is_shown(self, write):
        write("def broken():\n    return [][1]\n", "helper_of_mine.py", head="")
        message = fails(write("import helper_of_mine\nhelper_of_mine.broken()", head=""))
        assert "helper_of_mine.py:2: `return [][1]` raised IndexError: list index out of range" in message

    def test_a_wrong_recipe_shows_the_line_that_makes_it(self, write):
        assert "train.py:6: `recipe = Recipe(modle=1)` raised TypeError" in fails(write("recipe = Recipe(modle=1)"))

    def test_exit_on_import_is_no_way_out(self, write):
        assert "raised SystemExit: 4" in fails(write("import sys\nsys.exit(4)"))

    def test_ctrl_c_stays_ctrl_c(self, write):
        with pytest.raises(KeyboardInterrupt):
            load_recipe(write("raise KeyboardInterrupt"))

    def test_long_messages_are_cut(self, write):
        assert len(fails(write("raise ValueError('x ' * 10000)"))) < 500

    def test_unknown_name_offers_the_nearest(self, write):
        file = write("sound = make()\nsick = make()")
        assert fails(f"{file}:sik") == "train.py has no 'sik': did you mean sick?"
        assert "define a Recipe of that name" in fails(f"{file}:qqqqq")

    def test_a_function_with_required_arguments(self, write):
        message = fails(write("def build(depth) -> Recipe:\n    return make()"))
        assert "cannot call train.py without arguments: missing a required argument: 'depth'" in message

    def test_a_function_that_fails(self, write):
        message = fails(write("def build() -> Recipe:\n    return make(depth=3)") + ":build")
        assert message.startswith("train.py:build fails: train.py:7: `return make(depth=3)` raised TypeError")

    @pytest.mark.parametrize(
        ("text", "got"),
        [
            ("x = {'a': 1}", "got dict {'a': 1}"),
            ("x = Recipe", "got the class Recipe"),
            ("x = torch.nn.Linear(1, 1)", "got Linear Linear("),
            ("def x():\n    return None", "expected train.py:x() to be a graddoctor.Recipe, got NoneType None"),
        ],
    )
    def test_the_wrong_thing(self, write, text, got):
        assert got in fails(write(text) + ":x")

    def test_missing_module(self):
        assert fails("no_such_module_anywhere:recipe").startswith("no module 'no_such_module_anywhere'")
        assert fails("torch.no_such:recipe").startswith("no module 'torch.no_such'")

    def test_a_module_that_misses_another_is_no_missing_module(self, write):
        write("import no_such_dependency\n", "module_with_gap.py", head="")
        message = fails("module_with_gap:recipe")
        assert message.startswith("module module_with_gap raises on import: module_with_gap.py:1:")

    def test_nonsense(self):
        assert fails("what is this?").startswith("expected file.py, file.py:name or package.module:name")
        assert fails("").startswith("expected file.py")


words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,10}", fullmatch=True)


@given(words, words)
def test_targets_split_into_place_and_name(place, name):
    assert _split(f"{place}:{name}") == (place, name)
    assert _split(place) == (place, "")


@given(words)
def test_drives_stay_with_their_path(name):
    assert _split(f"C:\\{name}\\train.py") == (f"C:\\{name}\\train.py", "")
    assert _split(f"C:\\{name}\\train.py:recipe") == (f"C:\\{name}\\train.py", "recipe")
    assert _split(f"C:/{name}.py") == (f"C:/{name}.py", "")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_any_text_loads_or_fails_with_a_recipe_error(text):
    with contextlib.suppress(RecipeError):
        assert isinstance(load_recipe(text), Recipe)
