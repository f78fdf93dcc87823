"""Following a recording: only what is new, in one line a step."""

import math

import pytest

from graddoctor.errors import RecordingError
from graddoctor.recording import Recording, Stage
from graddoctor.show.follow import follow, newest_numbers, news


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.sqlite"


def test_one_step_tells_its_scalars_and_the_extremes():
    recording = Recording()
    recording.log(7, loss=0.5, learning_rate=0.01)
    recording.add(7, "front", Stage.RAW, norm=3.0)
    recording.add(7, "back", Stage.RAW, norm=4.0)
    recording.add(7, "front", Stage.WEIGHT, norm=100.0)
    line = newest_numbers(recording, 7)
    assert line.startswith("step 7  ")
    for piece in ("loss 0.5", "learning rate 0.01", "raw gradients from 3 (front) to 4 (back)"):
        assert piece in line


def test_a_later_stage_serves_where_there_is_no_earlier_one():
    recording = Recording()
    recording.add(0, "weight", Stage.CLIPPED, norm=1.5)
    assert "clipped gradients from 1.5 (weight) to 1.5 (weight)" in newest_numbers(recording, 0)


def test_odd_numbers_are_told_as_they_are():
    recording = Recording()
    recording.log(0, loss=math.nan)
    recording.add(0, "weight", Stage.RAW, norm=math.inf)
    line = newest_numbers(recording, 0)
    assert "loss NaN" in line
    assert "raw gradients from infinite (weight)" in line


def test_news_are_told_once():
    recording = Recording()
    stream = news(recording)
    assert next(stream) == []
    recording.add(0, "weight", Stage.RAW, norm=1.0)
    recording.event(0, "fault", "something happened")
    first, second = next(stream)
    assert first == "step 0: something happened"
    assert second.startswith("step 0  raw gradients")
    assert next(stream) == []
    for step in (1, 2, 3):
        recording.add(step, "weight", Stage.RAW, norm=1.0)
    (line,) = next(stream)
    assert line.startswith("step 3  ")


def test_a_growing_file_is_followed_until_interrupted(path):
    said = []

    def say(line):
        said.append(line)
        step = len(said)
        if step == 3:
            raise KeyboardInterrupt
        writer.add(step, "weight", Stage.RAW, norm=float(step))
        writer.flush()

    with Recording.create(path) as writer:
        writer.add(0, "weight", Stage.RAW, norm=1.0)
        writer.flush()
        with pytest.raises(KeyboardInterrupt):
            follow(path, say, every=0.01)
    assert [line.split("  ")[0] for line in said] == ["step 0", "step 1", "step 2"]


def test_once_is_once(path):
    Recording.create(path).close()
    said = []
    follow(path, said.append, once=True)
    assert said == ["nothing recorded yet"]


def test_what_is_no_recording_is_refused(path):
    with pytest.raises(RecordingError):
        follow(path, print)
    path.write_text("not a database")
    with pytest.raises(RecordingError):
        follow(path, print)
