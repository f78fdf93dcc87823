"""Recordings: in memory and in a file alike; killed writers, concurrent readers, files that are none."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graddoctor.errors import RecordingError
from graddoctor.recording import Event, Recording, Stage, Track, environment
from graddoctor.recording.store import MemoryStore
from graddoctor.recording.track import combine

TRACKS = (
    Track("a.weight", Stage.RAW, "a", ("norm", "zeros"), shape=(3, 4), aliases=("tied.weight",)),
    Track("b.weight", Stage.RAW, "b", ("norm", "zeros"), dtype="bfloat16"),
    Track("a.weight", Stage.UPDATE, "a", ("norm",)),
)


@pytest.fixture(params=["memory", "file"])
def recording(request, tmp_path):
    with Recording() if request.param == "memory" else Recording.create(tmp_path / "run.gd") as made:
        yield made


def fill(recording, steps=10):
    recording.declare(TRACKS)
    rows = np.arange(steps * 5, dtype=np.float32).reshape(steps, 5)
    recording.append(range(steps), rows)
    return rows


def test_stages_stand_in_the_order_of_life():
    life = (Stage.RAW, Stage.REDUCED, Stage.UNSCALED, Stage.CLIPPED, Stage.UPDATE)
    assert [stage.order for stage in life] == sorted(stage.order for stage in life)


def test_what_is_written_is_read(recording):
    rows = fill(recording)
    table = recording.table(Stage.RAW, "norm")
    assert table.names == ("a.weight", "b.weight")
    assert table.steps.tolist() == list(range(10))
    np.testing.assert_array_equal(table.matrix, rows[:, [0, 2]])
    series = recording.series("a.weight", Stage.UPDATE, "norm")
    np.testing.assert_array_equal(series.values, rows[:, 4])
    assert recording.tracks == TRACKS


def test_reading_goes_on_after_closing(recording):
    rows = fill(recording)
    recording.log(3, loss=1.5)
    recording.close()
    recording.close()
    np.testing.assert_array_equal(recording.table(Stage.UPDATE, "norm").matrix[:, 0], rows[:, 4])
    assert recording.scalars("loss").values.tolist() == [1.5]
    with pytest.raises(RecordingError, match="closed"):
        recording.log(4, loss=1.0)


def test_scalars_keep_what_is_not_finite(recording):
    recording.log(0, loss=2.5, lr=0.1)
    recording.log(1, loss=math.nan)
    recording.log(2, loss=math.inf)
    steps, values = recording.scalars("loss")
    assert steps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(values, [2.5, math.nan, math.inf])
    assert recording.scalar_names == ("loss", "lr")
    assert recording.scalars("unknown").steps.size == 0


def test_what_float32_cannot_hold_is_infinite(recording):
    fill(recording, 1)
    recording.append([1], [[1e300, 0.0, -1e300, 0.0, 1.0]])
    assert recording.table(Stage.RAW, "norm").matrix[-1].tolist() == [math.inf, -math.inf]


def test_events_and_metadata(recording):
    recording.event(4, "skipped step", "the loss scaler found an overflow")
    recording.describe("environment", environment())
    assert recording.events == (Event(4, "skipped step", "the loss scaler found an overflow"),)
    assert recording.metadata["environment"]["torch"]


def test_tracks_may_be_added_while_recording(recording):
    fill(recording, 3)
    recording.declare([*TRACKS, Track("c.weight", Stage.RAW, "c", ("norm", "zeros"))])
    recording.append([3], np.full((1, 7), 9.0))
    table = recording.table(Stage.RAW, "norm")
    assert table.names == ("a.weight", "b.weight", "c.weight")
    assert np.isnan(table.matrix[:3, 2]).all()
    assert table.matrix[3].tolist() == [9, 9, 9]
    assert recording.series("c.weight", Stage.RAW, "norm").steps.tolist() == [3]


def test_two_writers_of_one_step_are_combined(recording):
    fill(recording, 3)
    recording.flush()
    recording.add(1, "h", Stage.ACTIVATION, spread=0.5)
    recording.add(1, "h", Stage.ACTIVATION, spread=0.75)
    assert recording.series("a.weight", Stage.RAW, "norm").values.tolist() == [0, 5, 10]
    assert recording.series("h", Stage.ACTIVATION, "spread") == ([1], [0.75])


def test_since_and_limit(recording):
    fill(recording, 100)
    assert recording.table(Stage.RAW, "norm", since=96).steps.tolist() == [97, 98, 99]
    some = recording.table(Stage.RAW, "norm", limit=5)
    assert len(some.steps) == 5
    assert some.steps[-1] == 99
    assert recording.table(Stage.RAW, "norm", limit=1).steps.tolist() == [99]


def test_questions_about_what_is_not_there(recording):
    fill(recording, 1)
    with pytest.raises(RecordingError, match="no tensor has this name"):
        recording.series("x", Stage.RAW, "norm")
    with pytest.raises(RecordingError, match="recorded as raw, update"):
        recording.series("a.weight", Stage.CLIPPED, "norm")
    with pytest.raises(RecordingError, match="keeps norm, zeros, not std"):
        recording.series("a.weight", Stage.RAW, "std")
    with pytest.raises(RecordingError, match="keeps norm, not std"):
        recording.add(0, "a.weight", Stage.UPDATE, std=1.0)
    with pytest.raises(RecordingError, match="keeps"):
        recording.declare([Track("a.weight", Stage.RAW, "a", ("std",))])
    with pytest.raises(RecordingError, match="at most 5"):
        recording.append([0], np.zeros((1, 6)))
    assert recording.table(Stage.CLIPPED, "norm").matrix.shape == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.floats(width=32), min_size=0, max_size=5)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_file_holds_what_memory_holds(tmp_path_factory, writes):
    memory = Recording()
    with Recording.create(tmp_path_factory.mktemp("r") / "run.gd") as file:
        for recording in (memory, file):
            recording.declare(TRACKS)
            for index, (step, row) in enumerate(writes):
                recording.append([step], [row])
                if index % 3 == 0:
                    recording.flush()
        for stage, statistic in ((Stage.RAW, "norm"), (Stage.UPDATE, "norm")):
            ours, theirs = memory.table(stage, statistic), file.table(stage, statistic)
            np.testing.assert_array_equal(ours.matrix, theirs.matrix)
            np.testing.assert_array_equal(ours.steps, theirs.steps)


@given(st.lists(st.floats(width=32, allow_nan=True), max_size=6))
@settings(max_examples=30, deadline=None)
def test_combining_a_row_with_itself_changes_nothing(values):
    row = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(combine(row, row), row)


def test_memory_is_bounded_and_keeps_the_newest():
    recording = Recording(MemoryStore(limit=20_000))
    recording.declare(TRACKS)
    for step in range(5_000):
        recording.append([step], np.full((1, 5), step))
    steps = recording.steps
    assert len(steps) <= 1_000
    assert steps[0] == 0
    assert steps[-300:].tolist() == list(range(4_700, 5_000))
    np.testing.assert_array_equal(recording.series("a.weight", Stage.RAW, "norm").values, steps)


# Files


def test_a_closed_recording_is_one_file(tmp_path):
    with Recording.create(tmp_path / "run.gd") as recording:
        fill(recording)
    assert [path.name for path in tmp_path.iterdir()] == ["run.gd"]
    assert Recording.open(tmp_path / "run.gd").tracks == TRACKS


def test_a_reader_follows_a_living_writer(tmp_path):
    path = tmp_path / "run.gd"
    with Recording.create(path) as writer:
        reader = Recording.open(path)
        assert reader.tracks == ()
        fill(writer, 4)
        writer.flush()
        assert reader.table(Stage.RAW, "norm").steps.tolist() == [0, 1, 2, 3]
        writer.declare([Track("late", Stage.WEIGHT, "", ("norm",))])
        writer.append([4], np.ones((1, 6)))
        writer.log(4, loss=1.0)
        writer.flush()
        assert reader.series("late", Stage.WEIGHT, "norm").values.tolist() == [1.0]
        assert reader.scalars("loss").values.tolist() == [1.0]
        assert reader.steps[-1] == 4
        with pytest.raises(RecordingError, match="reading only"):
            reader.log(5, loss=1.0)
    assert reader.steps.tolist() == [0, 1, 2, 3, 4]
    reader.close()


WRITER = """
import sys, time
import numpy as np
from graddoctor.recording import Recording, Stage, Track
recording = Recording.create(sys.argv[1])
recording.declare([Track("w", Stage.RAW, "", ("norm",) * 50)])
step = 0
while True:
    recording.append([step], np.full((1, 50), step))
    recording.log(step, loss=step)
    if step % 10 == 9:
        recording.flush()
        print(step, flush=True)
    step += 1
"""


def test_a_killed_process_leaves_a_readable_file_and_readers_may_look_on(tmp_path):
    path = tmp_path / "run.gd"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        reader, seen = Recording.open(path), []
        for _ in range(20):
            table = reader.table(Stage.RAW, "norm")
            np.testing.assert_array_equal(table.matrix[:, 0], table.steps)
            seen.append(len(table.steps))
            process.stdout.readline()
        assert seen[-1] > seen[0]
        promised = int(process.stdout.readline())
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader.close()
    after = Recording.open(path)
    steps = after.steps
    assert steps[-1] >= promised
    assert steps.tolist() == list(range(len(steps)))
    np.testing.assert_array_equal(after.series("w", Stage.RAW, "norm").values, steps)
    after.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.gd"
    with Recording.create(path) as recording:
        recording.declare([Track(f"tensor.{index}", Stage.RAW, "", ("norm",)) for index in range(500)])
        recording.append(range(100), np.random.default_rng(0).normal(size=(100, 500)))
    return path


@pytest.mark.parametrize("keep", [50, 1_000, 4_096, 100_000])
def test_truncated_files_are_told(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RecordingError, match="truncated"):
        Recording.open(file)


def test_garbage_inside_is_told(file):
    data = bytearray(file.read_bytes())
    data[4_096:20_000] = b"\xff" * (20_000 - 4_096)
    file.write_bytes(data)

    def read():
        recording = Recording.open(file)
        return recording.tracks, recording.table(Stage.RAW, "norm")

    with pytest.raises(RecordingError, match="cannot be read"):
        read()


def test_a_newer_version_is_told(file):
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(RecordingError, match=r"newer graddoctor \(schema 7.*pip install"):
        Recording.open(file)


def test_other_files_are_told(tmp_path):
    (tmp_path / "text").write_text("loss,step\n1,2\n")
    (tmp_path / "empty").touch()
    connection = sqlite3.connect(tmp_path / "other")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for name, message in {
        "text": "expected a SQLite file, got one that begins with b'loss",
        "empty": "an empty file",
        "other": "not a recording of graddoctor",
        "missing": "no such recording",
        ".": "cannot be read",
    }.items():
        with pytest.raises(RecordingError, match=message) as caught:
            Recording.open(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_written(tmp_path, file):
    with pytest.raises(RecordingError, match="is not a folder"):
        Recording.create(tmp_path / "no" / "such" / "run.gd")
    with pytest.raises(RecordingError, match="is not a folder"):
        Recording.create(file / "run.gd")
    with pytest.raises(RecordingError, match=r"cannot be (written|read)"):
        Recording.create(tmp_path, overwrite=True)


def test_nothing_is_overwritten_unasked(tmp_path, file):
    before = file.read_bytes()
    with pytest.raises(RecordingError, match="overwrite=True"):
        Recording.create(file)
    assert file.read_bytes() == before
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RecordingError, match="not a recording"):
        Recording.create(tmp_path / "thesis.txt", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    with Recording.create(file, overwrite=True) as recording:
        assert recording.steps.size == 0


def test_a_full_disk_is_a_clear_error(file):
    recording = Recording.create(file, overwrite=True)
    recording._store._connection.execute("PRAGMA max_page_count = 10")
    recording.declare([Track("w", Stage.RAW, "", ("norm",) * 1_000)])
    for write in (lambda: recording.append(range(100), np.ones((100, 1_000))), recording.close):
        with pytest.raises(RecordingError, match="cannot be written"):
            write()
    assert Recording.open(file).steps.size == 0


def test_writing_a_step_costs_the_same_however_long_the_history(tmp_path):
    with Recording.create(tmp_path / "run.gd") as recording:
        recording.declare([Track(f"t{index}", Stage.RAW, "", ("norm",) * 4) for index in range(200)])
        row, seconds = np.ones((1, 800)), []
        for step in range(4_000):
            start = time.perf_counter()
            recording.append([step], row)
            seconds.append(time.perf_counter() - start)
        assert np.median(seconds[-1_000:]) < 5 * np.median(seconds[:1_000]) + 1e-4
