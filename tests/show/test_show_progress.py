"""Progress: late, brief, and only where somebody looks."""

import io

import pytest
from rich.console import Console

from graddoctor.show.progress import PATIENCE, Progress


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None, legacy_windows=False)


def test_what_is_over_soon_shows_nothing(screen):
    with Progress(screen) as progress:
        progress("training", 1, 10)
    assert PATIENCE == 2.0
    assert screen.file.getvalue() == ""


def test_what_takes_long_says_where_it_is(screen):
    with Progress(screen, patience=0) as progress:
        progress("training", 3, 10)
        progress._bar.refresh()
        progress("experiment", 2, 7, "standardised [inputs]")
        progress._bar.refresh()
        progress("experiment 3: ReLU", 0, 0)
        progress._bar.refresh()
    text = screen.file.getvalue()
    assert "training 3 of 10" in text
    assert "experiment 2 of 7: standardised [inputs]" in text
    assert "experiment 3: ReLU " in text


def test_it_waits_its_two_seconds(screen, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("graddoctor.show.progress.time.monotonic", lambda: now[0])
    with Progress(screen) as progress:
        progress("probing")
        assert progress._bar is None
        now[0] += 2.5
        progress("probing")
        assert progress._bar is not None
    assert progress._bar is None


def test_a_pipe_hears_nothing():
    pipe = Console(file=io.StringIO(), force_terminal=False)
    with Progress(pipe, patience=0) as progress:
        progress("training", 1, 10)
    assert pipe.file.getvalue() == ""


def test_the_line_goes_when_something_raises(screen):
    progress = Progress(screen, patience=0)

    def work():
        with progress:
            progress("training", 1, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert progress._bar is None
    progress.close()


def test_the_time_left_follows_the_pace_of_the_phase(screen, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("graddoctor.show.progress.time.monotonic", lambda: now[0])
    with Progress(screen, patience=0) as progress:
        assert progress._left("race", 0, 10) == ""
        now[0] += 6
        assert progress._left("race", 2, 10) == "24 s left"
        assert progress._left("race", 10, 10) == ""
        assert progress._left("proof", 3, 10) == ""
        now[0] += 40
        assert progress._left("proof", 4, 10) == "4 min 00 s left"
        assert progress._left("proof", 4, None) == ""
        assert progress._left("proof", 0, 10) == ""  # begun anew
        progress("proof", 1, 10)
        now[0] += 2
        progress("proof", 2, 10)
        progress._bar.refresh()
    assert "8.0 s left" in screen.file.getvalue()
