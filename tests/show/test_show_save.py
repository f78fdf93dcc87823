"""Saving by suffix, and saying before training what cannot be saved."""

import errno
from dataclasses import replace

import pytest

from graddoctor.errors import GraddoctorError
from graddoctor.show import check_writable, load, save


@pytest.mark.parametrize(
    ("suffix", "begin"),
    [
        (".html", b"<!doctype html>"),
        (".json", b'{"schema": 1'),
        (".md", b"# Sick: deep\\_sigmoid"),
        (".txt", b"SICK  deep_sigmoid"),
        (".svg", b"<svg"),
        (".png", b"\x89PNG"),
        (".PNG", b"\x89PNG"),
    ],
)
def test_the_suffix_says_as_what(suffix, begin, sick, tmp_path):
    path = save(sick, tmp_path / f"checkup{suffix}")
    assert path.read_bytes().startswith(begin)


@pytest.mark.parametrize(
    ("suffix", "begin"),
    [
        (".html", b"<!doctype html>"),
        (".json", b'{"schema": 1, "kind": "cure"'),
        (".md", b"# Cured: deep\\_sigmoid"),
        (".txt", b"CURED  deep_sigmoid"),
        (".svg", b"<svg"),
        (".png", b"\x89PNG"),
    ],
)
def test_a_cure_is_saved_by_suffix_too(suffix, begin, cured, tmp_path):
    path = save(cured, tmp_path / f"cure{suffix}")
    assert path.read_bytes().startswith(begin)


def test_the_picture_of_a_cure_is_of_what_it_has(not_cured, sound, interrupted, tmp_path):
    assert "training loss" in save(not_cured, tmp_path / "curves.svg").read_text()
    assert "decades of gradient" in save(sound, tmp_path / "budget.svg").read_text()
    with pytest.raises(GraddoctorError, match="no budget to draw"):
        save(interrupted, tmp_path / "nothing.png")


@pytest.mark.parametrize("name", ["sick", "cured", "not_cured"])
def test_every_face_can_be_made_of_the_saved_json(name, request, tmp_path):
    report = request.getfixturevalue(name)
    again = load(save(report, tmp_path / "report.json"))
    for suffix in (".html", ".md", ".txt", ".svg"):
        one, other = (save(made, tmp_path / f"{name}{suffix}") for name, made in (("a", report), ("b", again)))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["checkup.pdf", "checkup", ".html"])
def test_an_unknown_suffix_is_said_with_those_that_are_known(name, sick, tmp_path):
    for attempt in (lambda: check_writable(tmp_path / name), lambda: save(sick, tmp_path / name)):
        with pytest.raises(GraddoctorError, match=r"should end in one of \.html \.json \.md"):
            attempt()


def test_a_suffix_that_the_caller_writes_itself_is_known(tmp_path):
    assert check_writable(tmp_path / "treated.py", also=(".py",)) == tmp_path / "treated.py"
    with pytest.raises(GraddoctorError, match="should end in one of"):
        check_writable(tmp_path / "treated.cc", also=(".py",))
    with pytest.raises(GraddoctorError, match="make the folder"):
        check_writable(tmp_path / "nowhere" / "treated.py", also=(".py",))


def test_a_missing_folder_is_said(sick, tmp_path):
    path = tmp_path / "nowhere" / "checkup.html"
    with pytest.raises(GraddoctorError, match=r"make the folder '.*nowhere' first"):
        check_writable(path)
    with pytest.raises(GraddoctorError, match=r"cannot write the report to '.*checkup.html'"):
        save(sick, path)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "checkup.html").mkdir()
    with pytest.raises(GraddoctorError, match="it is a folder"):
        check_writable(tmp_path / "checkup.html")


def test_looking_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "new.html")
    assert not list(tmp_path.iterdir())
    old = tmp_path / "old.json"
    old.write_text("kept")
    before = old.stat().st_mtime_ns
    assert check_writable(old) == old
    assert old.read_text() == "kept"
    assert old.stat().st_mtime_ns == before


def test_a_folder_without_permission_is_said(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(GraddoctorError, match=r"cannot write the report to '.*checkup.html': Permission denied"):
        check_writable(tmp_path / "checkup.html")


def test_there_is_no_picture_without_a_budget(sick, tmp_path):
    with pytest.raises(GraddoctorError, match=r"no budget to draw in this report of 'deep_sigmoid'"):
        save(replace(sick, budget=None), tmp_path / "checkup.png")
