"""Settings: flags over pyproject.toml over defaults, and what is said of those that cannot be used."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.config import _PARSERS, Settings, read_settings
from graddoctor.errors import SettingsError
from graddoctor.terms import Condition


def write(folder, text):
    (folder / "pyproject.toml").write_text(f"[tool.graddoctor]\n{text}\n")
    return folder


def test_without_a_file_there_are_defaults(tmp_path):
    assert read_settings(tmp_path) == Settings()


def test_every_key_is_read(tmp_path):
    text = 'budget = "5m"\nsteps = 200\nignore = ["dead_units", "plateau"]\nexperiments = false\nout = "a.html"'
    expected = Settings(
        budget=300.0,
        steps=200,
        ignore=(Condition.DEAD_UNITS, Condition.PLATEAU),
        experiments=False,
        out=(tmp_path / "a.html",),
    )
    assert read_settings(write(tmp_path, text)) == expected


def test_every_setting_has_a_parser():
    assert set(_PARSERS) == {field.name for field in fields(Settings)}


def test_the_nearest_file_counts_even_without_a_table(tmp_path):
    write(tmp_path, "steps = 1")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert read_settings(inner).steps == 1
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert read_settings(inner) == Settings()


def test_flags_beat_the_file(tmp_path):
    settings = read_settings(write(tmp_path, 'steps = 200\nexperiments = false\nignore = ["plateau"]'))
    assert settings.overridden(steps=None, experiments=None, ignore=None, out=[]) == settings
    over = settings.overridden(steps=5, experiments=True, ignore=["dead-units"], out=[Path("x.md")])
    assert over == Settings(steps=5, experiments=True, ignore=(Condition.DEAD_UNITS,), out=(Path("x.md"),))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budgte = 1", "unknown key; did you mean budget?"),
        ("qqq = 1", "known are budget, steps, ignore, experiments, out"),
        ("budget = true", "expected seconds or a duration such as 90, 90s or 5m, got True"),
        ("budget = 0", "got 0"),
        ("steps = 0", "expected a number of steps from 1 upwards, got 0"),
        ("steps = 1.5", "got 1.5"),
        ("steps = true", "got True"),
        ("experiments = 1", "expected true or false, got 1"),
        ('ignore = ["vanishin"]', "no condition 'vanishin'; did you mean vanishing?"),
        ("ignore = 3", "expected a list of names, got 3"),
        ("out = [1]", "expected a list of names, got [1]"),
    ],
)
def test_what_cannot_be_used_is_told_with_file_and_key(tmp_path, text, told):
    with pytest.raises(SettingsError) as caught:
        read_settings(write(tmp_path, text))
    key = text.split(" ", maxsplit=1)[0]
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'} [tool.graddoctor] {key}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("content", ["[tool.graddoctor", "[tool]\ngraddoctor = 3\n", "tool = 3", b"\xff\xfe"])
def test_a_broken_file(tmp_path, content):
    file = tmp_path / "pyproject.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=r"pyproject\.toml"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("5 m", 300), ("2h", 7200), (7, 7), (0.5, 0.5)]
)
def test_durations(text, seconds):
    assert Settings().overridden(budget=text).budget == seconds


@given(st.text())
def test_any_text_is_a_duration_or_a_settings_error(text):
    try:
        budget = Settings().overridden(budget=text).budget
    except SettingsError:
        return
    assert budget > 0


@given(st.floats(min_value=0.001, max_value=1e6))
def test_seconds_survive_their_text(seconds):
    assert Settings().overridden(budget=f"{seconds:f}").budget == pytest.approx(seconds, abs=1e-6)


@given(st.sampled_from(Condition), st.booleans(), st.booleans())
def test_conditions_in_any_spelling(condition, upper, dashes):
    name = condition.value.upper() if upper else condition.value
    name = name.replace("_", "-") if dashes else name
    assert Settings().overridden(ignore=[name]).ignore == (condition,)
